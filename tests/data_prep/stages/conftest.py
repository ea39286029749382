import numpy as np
import pytest

from data_prep.analyze import analyze
from data_prep.settings import DataSettings
from data_prep.sources import Source


@pytest.fixture(scope="session")
def scored(shared_data):
    """Scores of a clip of the shared folder by its name: the mean of each column over its spans."""
    found = {}

    def of(name):
        if name not in found:
            source = Source(source_id="0" * 64, uri=name, file=shared_data / "videos" / f"{name}.mp4")
            spans = analyze(source, DataSettings()).spans
            numbers = [c for c, value in spans[0].items() if isinstance(value, float)]
            found[name] = {column: float(np.mean([span[column] for span in spans])) for column in numbers}
        return found[name]

    return of
