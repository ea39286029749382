"""Video encoders in the registry: named by alias or folder, and the better one is the champion."""

import pytest
import torch

from vidgen_core import weights
from vidgen_core.encoders import cvrl
from vidgen_core.errors import VidgenError
from vidgen_core.registry.encoders import open_video_encoder, promote_if_better
from vidgen_core.registry.models import ENCODER, register
from vidgen_core.registry.tracking import Tracker


def saved(folder, seed):
    torch.manual_seed(seed)
    encoder = cvrl.Config.tiny().build()
    card = {"kind": "encoders", "name": "cvrl", "config": encoder.config.model_dump(mode="json")}
    return encoder, weights.save(folder, encoder.state_dict(), card)


def test_a_better_encoder_takes_the_alias_and_opens_by_it(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = Tracker.open(uri, experiment="encoder-cvrl", run_key="one", artifacts=tmp_path / "artifacts")
    made = []
    for seed in range(3):
        encoder, digest = saved(tmp_path / f"encoder-{seed}", seed)
        version = register(tracker, "encoder-cvrl", tmp_path / f"encoder-{seed}", model=digest, tags={}, kind=ENCODER)
        made.append((encoder, version))

    def promoted(number, value, data="clips"):
        return promote_if_better(uri, made[number][1], "probe", value, data=data, who="somebody")

    def champion():
        return open_video_encoder("encoder-cvrl@champion", uri=uri, cache_dir=tmp_path / "cache").digest

    assert promoted(0, 0.8) == "champion"
    assert promoted(1, 0.7) == "challenger"
    assert champion() == made[0][0].digest
    assert promoted(2, 0.9) == "champion"
    assert champion() == made[2][0].digest
    assert promoted(2, 0.9) == "champion"
    assert promoted(1, 0.1, data="other clips") == "champion", "figures on other clips say nothing of each other"
    assert open_video_encoder(tmp_path / "encoder-1").digest == made[1][0].digest == champion()
    with pytest.raises(VidgenError, match="no folder"):
        open_video_encoder("encoder-cvrl@champion")
