"""Trained encoders that a recipe names become spaces of its evaluation."""

import numpy as np
import pytest
import torch

from flows.home import Home
from flows.recipes.recipe import load
from flows.spec import Spec
from flows.stages.evaluate import _encoders, _matchers
from vidgen_core import discovery, weights
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.extractors.trained import TrainedEncoder

CLIPS = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    for name in ("cvrl", "clipbert"):
        torch.manual_seed(0)
        made = discovery.load("vidgen_core.encoders", name).Config.tiny().build()
        card = {"kind": "encoders", "name": name, "config": made.config.model_dump(mode="json")}
        weights.save(place / name, made.state_dict(), card)
    return place


def test_named_folders_are_opened_and_those_that_know_captions_match(folders, tmp_path):
    named = [str(folders / "cvrl"), str(folders / "clipbert")]
    recipe = load("shapes.tiny", [f"evaluation.encoders={named}".replace("'", '"')])
    spec = Spec(stage="evaluate", recipe=recipe, videos="v", home_dir=Home.open(tmp_path).root)
    opened = _encoders(spec)
    assert list(opened) == ["cvrl", "clipbert"]
    space = TrainedEncoder("cvrl", opened["cvrl"])
    assert space.features(CLIPS).shape == (2, space.protocol.dimensions)
    (match,) = _matchers(opened, HashedWords.tiny().build())
    assert match.space == "clipbert"
    assert np.isfinite(match.scores(CLIPS, ["a red square", "a cat"])).all()
    with pytest.raises(VidgenError, match="another text encoder"):
        _matchers(opened, HashedWords(dim=48).build())
