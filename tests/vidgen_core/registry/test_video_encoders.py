"""Video encoders in the registry: named by alias or folder, and the better one is the champion."""

import pytest
import torch

from vidgen_core import weights
from vidgen_core.encoders import cvrl
from vidgen_core.errors import VidgenError
from vidgen_core.registry.encoders import open_video_encoder, promote_if_better
from vidgen_core.registry.journal import read
from vidgen_core.registry.models import ENCODER, register
from vidgen_core.registry.promotion import block
from vidgen_core.registry.tracking import Tracker, client


def saved(folder, seed):
    torch.manual_seed(seed)
    encoder = cvrl.Config.tiny().build()
    card = {"kind": "encoders", "name": "cvrl", "config": encoder.config.model_dump(mode="json")}
    return encoder, weights.save(folder, encoder.state_dict(), card)


def test_a_better_encoder_takes_the_alias_and_opens_by_it(tmp_path):
    cache = tmp_path / "cache"
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = Tracker.open(uri, experiment="encoder-cvrl", run_key="one", artifacts=tmp_path / "artifacts")
    made = []
    for seed in range(3):
        encoder, digest = saved(tmp_path / f"encoder-{seed}", seed)
        version = register(tracker, "encoder-cvrl", tmp_path / f"encoder-{seed}", model=digest, tags={}, kind=ENCODER)
        made.append((encoder, version))

    def promoted(number, value, data="clips", champions=None):
        """`champions` are the figures that the champion has on the same clips; None where it must not be asked."""

        def measure(encoder):
            assert encoder.digest == open_video_encoder("encoder-cvrl@champion", uri=uri, cache_dir=cache).digest
            if isinstance(champions, VidgenError):
                raise champions
            return champions

        return promote_if_better(
            uri, made[number][1], "probe", value, data=data, who="somebody", cache_dir=cache, measure=measure
        )

    def reason():
        return read(client(uri), "encoder-cvrl")[-1].reasons[0]

    def champion():
        return open_video_encoder("encoder-cvrl@champion", uri=uri, cache_dir=cache).digest

    assert promoted(0, 0.8) == "champion"
    assert promoted(1, 0.7) == "challenger"
    assert champion() == made[0][0].digest
    assert promoted(2, 0.9) == "champion"
    assert champion() == made[2][0].digest
    assert promoted(2, 0.9) == "champion"
    # Figures on other clips say nothing of each other: the champion gets one on these.
    assert promoted(1, 0.1, data="other clips", champions={"probe": 0.2}) == "challenger"
    assert "the champion's 0.200, measured again on the same clips" in reason()
    assert promoted(0, 0.95, data="more clips", champions={"probe": 0.92}) == "champion"
    assert promoted(2, 0.1, data="third clips", champions={"copies": 0.9}) == "champion"
    assert "the champion has none on the same clips" in reason()
    assert promoted(1, 0.1, data="fourth clips", champions=VidgenError("Its labels are others")) == "champion"
    assert "cannot be measured on the same clips: Its labels are others." in reason()
    assert open_video_encoder(tmp_path / "encoder-1").digest == made[1][0].digest == champion()
    # A blocked one is refused in one entry, whether it was the champion or would be the best.
    entries = len(read(client(uri), "encoder-cvrl"))
    for number in (1, 2):
        block(uri, [made[number][1]], "it saw a.mp4", who="somebody")
        assert promoted(number, 0.99) == "challenger"
        assert reason() == "It is blocked: it saw a.mp4"
    assert len(read(client(uri), "encoder-cvrl")) == entries + 4
    with pytest.raises(VidgenError, match="no folder"):
        open_video_encoder("encoder-cvrl@champion")
