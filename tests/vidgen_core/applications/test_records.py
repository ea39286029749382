"""A sample is made again from its record alone."""

import json

import numpy as np
import pytest
import torch

from vidgen_core import weights
from vidgen_core.applications.generator import Card, Generator, assemble
from vidgen_core.applications.records import SampleRecord, changed_pixels, record, replay
from vidgen_core.codecs.identity import Config as Identity
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.families import flow_matching
from vidgen_core.interfaces import Space
from vidgen_core.networks import factorized_dit
from vidgen_core.sampling import Sampling

SPACE = Space(channels=3, frames=3, height=8, width=8, text_dim=HashedWords.tiny().dim)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = flow_matching.Config(network=factorized_dit.Config(dim=32, depth=1, heads=2))
    numbers = torch.Generator().manual_seed(0)
    state = config.build(SPACE).state_dict()
    # An untrained network draws gray.
    noisy = {key: value + 0.1 * torch.randn(value.shape, generator=numbers) for key, value in state.items()}
    weights.save(folder / "family", noisy, {})
    weights.save(folder / "codec", Identity().build().state_dict(), {"name": "identity", "config": {}})
    card = Card(
        family="flow_matching", config=config.model_dump(mode="json"), space=SPACE, text="hashed_words",
        frame_rate="8", text_config=HashedWords.tiny().model_dump(mode="json"),
        sampling=Sampling(sampler="euler", steps=2, guidance=1.5),
    )  # fmt: skip
    name = assemble(folder / "model", card, family_dir=folder / "family", codec_dir=folder / "codec")
    return Generator.load(folder / "model"), name


def test_a_sample_is_made_again_from_its_record_in_any_order(model):
    generator, name = model
    prompts = [f"a red square moves {way}" for way in ("left", "right", "up", "down", "on")]
    clips = generator.videos(prompts, seed=7)
    records = record(generator, name, purpose="truth", clips=clips, prompts=prompts, seed=7)
    kept = [SampleRecord.model_validate(row) for row in json.loads(json.dumps([r.model_dump() for r in records]))]
    again = replay(generator, name, [kept[3], kept[0]])
    # Batches of other sizes may round the last bit otherwise.
    assert np.abs(again.astype(int) - clips[[3, 0]]).max() <= 1
    assert not changed_pixels(clips[3], kept[3])
    assert changed_pixels(clips[0], kept[3])


def test_a_record_of_another_model_is_refused(model):
    generator, name = model
    clips = generator.videos(["a"], seed=1)
    (one,) = record(generator, name, purpose="truth", clips=clips, prompts=["a"], seed=1)
    with pytest.raises(VidgenError, match="another model"):
        replay(generator, "else", [one])
