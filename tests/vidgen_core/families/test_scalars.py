"""Laws of scalar conditions, for every family that reads them and for the statistics that go with them."""

import numpy as np
import pytest
import torch

from vidgen_core import discovery, weights
from vidgen_core.applications.generator import Card, Generator, assemble
from vidgen_core.chance import Chance
from vidgen_core.codecs.identity import Config as Identity
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.errors import VidgenError
from vidgen_core.families import flow_matching
from vidgen_core.interfaces import Ask, Batch, Space
from vidgen_core.layers.scalars import ranks
from vidgen_core.networks import factorized_dit
from vidgen_core.sampling import Sampling
from vidgen_core.scalars import Scalar

MOTION = Scalar.of("motion", np.random.default_rng(0).lognormal(size=500))
TEXT = Scalar.of("text_area", [0.0] * 90 + [0.1 * place for place in range(10)])
SPACE = Space(channels=3, frames=3, height=4, width=4, text_dim=64, scalars=(MOTION, TEXT))
ENCODER = HashedWords.tiny().build()
WORDS = ENCODER.encode(["a red square moves left"] * 4)
MISSING = torch.full((4,), torch.nan)


def build(name):
    torch.manual_seed(0)
    family = discovery.load("vidgen_core.families", name).Config.tiny().build(SPACE)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return family


READERS = [name for name in discovery.names("vidgen_core.families") if build(name).accepts_scalars]


@pytest.fixture(params=READERS, name="family")
def _family(request):
    return build(request.param)


def batch(**scalars):
    video = torch.randn(4, *SPACE.shape, generator=torch.Generator().manual_seed(1))
    return Batch(video, WORDS, torch.arange(4), scalars)


@torch.no_grad()
def draw(family, scalars=None, **changes):
    ask = Ask(
        **{"index": torch.arange(4), "shape": SPACE.shape, "text": WORDS, "steps": 3, "scalars": scalars, **changes}
    )
    return family.generate(ask, Chance(0))


def motion(value):
    return {"motion": torch.full((4,), value)}


def test_a_condition_changes_the_output_and_its_value_matters(family):
    plain, little, much = draw(family), draw(family, motion(MOTION.at(0.1))), draw(family, motion(MOTION.at(0.9)))
    assert not torch.allclose(plain, little)
    assert not torch.allclose(little, much)
    assert not torch.allclose(draw(family, motion(1.0)), draw(family, {"text_area": torch.ones(4)}))


def test_a_missing_condition_is_none_at_all_and_not_a_zero(family):
    for guidance in (1.0, 3.0):
        plain = draw(family, guidance=guidance)
        assert torch.equal(plain, draw(family, {"motion": MISSING}, guidance=guidance))
        assert not torch.allclose(plain, draw(family, motion(0.0), guidance=guidance))


def test_of_a_batch_each_sample_has_its_own_condition(family):
    mixed = torch.tensor([MOTION.at(0.9), torch.nan, MOTION.at(0.1), MOTION.at(0.9)])
    together = draw(family, {"motion": mixed}, guidance=2.0)
    assert torch.allclose(together[[0, 3]], draw(family, motion(MOTION.at(0.9)), guidance=2.0)[[0, 3]], atol=1e-5)
    assert torch.allclose(together[1], draw(family, guidance=2.0)[1], atol=1e-5)


def test_guidance_leads_away_from_no_condition(family):
    # A scale of 0 stands where guidance leads away from: no scalars, and the empty prompt.
    away = draw(family, text=WORDS.empty())
    for given in (motion(MOTION.at(0.9)), motion(MOTION.at(0.1))):
        assert torch.allclose(draw(family, given, guidance=0.0), away, atol=1e-4)
        assert not torch.allclose(draw(family, given), away, atol=1e-4)


def test_an_unknown_condition_is_a_sentence_with_the_nearest(family):
    with pytest.raises(VidgenError, match="motion") as error:
        draw(family, {"motoin": torch.ones(4)})
    assert "Did you mean" in str(error.value)


def test_every_parameter_learns_where_some_scores_are_missing(family):
    scalars = {"motion": torch.tensor([0.1, torch.nan, 2.0, 3.0]), "text_area": MISSING}
    for _, loss in family.losses(batch(**scalars), Chance(0)):
        assert torch.isfinite(loss)
        loss.backward()
    silent = [name for name, p in family.named_parameters() if p.grad is None]
    assert silent == []
    grads = {name: p.grad.abs().sum() for name, p in family.named_parameters() if ".missing." in name}
    assert all(grads.values())


def test_training_drops_all_conditions_together_and_each_alone(family):
    index = torch.arange(2000)
    many = Batch(torch.zeros(2000, 1, 1, 1, 1), ENCODER.encode(["red"] * 2000), index, {
        "motion": torch.ones(2000), "text_area": torch.ones(2000)})  # fmt: skip
    seen = family._thinned(many, Chance(0))
    silent = ~seen.text.mask.any(1)
    gone = {name: values.isnan() for name, values in seen.scalars.items()}
    assert 0.07 < silent.float().mean() < 0.13
    assert all(values[silent].all() for values in gone.values())
    assert all(0.07 < values[~silent].float().mean() < 0.13 for values in gone.values())
    assert not torch.equal(gone["motion"], gone["text_area"])


def test_ranks_are_the_share_of_clips_below_and_quantiles_turn_them_back():
    values = torch.tensor([MOTION.at(rank) for rank in (0.0, 0.2, 0.5, 0.93, 1.0)])
    found = ranks(values, torch.tensor(MOTION.quantiles))
    assert torch.allclose(found, torch.tensor([0.0, 0.2, 0.5, 0.93, 1.0]), atol=1e-3)
    assert ranks(torch.tensor([-5.0, 1e9]), torch.tensor(MOTION.quantiles)).tolist() == [0.0, 1.0]
    # 90 of 100 clips have no text: none of it is the rank of all of them.
    assert ranks(torch.tensor([0.0]), torch.tensor(TEXT.quantiles)).item() == pytest.approx(0.9, abs=0.02)
    constant = Scalar.of("still", [2.0, 2.0])
    assert torch.isfinite(ranks(torch.tensor([1.0, 2.0, 3.0]), torch.tensor(constant.quantiles))).all()


def test_a_score_that_no_clip_has_is_a_sentence():
    with pytest.raises(VidgenError, match="aesthetic"):
        Scalar.of("aesthetic", [np.nan, np.nan])


def test_a_saved_generator_has_the_statistics_of_its_training(tmp_path):
    family = build("flow_matching")
    config = family.config.model_dump(mode="json")
    weights.save(tmp_path / "family", family.state_dict(), {})
    weights.save(tmp_path / "codec", Identity().build().state_dict(), {"name": "identity", "config": {}})
    card = Card(
        family="flow_matching", config=config, space=SPACE, text="hashed_words", frame_rate="8",
        text_config=HashedWords.tiny().model_dump(mode="json"),
        sampling=Sampling(steps=2, guidance=2.0, conditions={"motion": "90%"}),
    )  # fmt: skip
    assemble(tmp_path / "model", card, family_dir=tmp_path / "family", codec_dir=tmp_path / "codec")
    model = Generator.load(tmp_path / "model")
    assert model.card.space.scalars == (MOTION, TEXT)

    def videos(**conditions):
        return model.videos(["a red square"], sampling=card.sampling.model_copy(update={"conditions": conditions}))

    assert np.array_equal(model.videos(["a red square"]), videos(motion=MOTION.at(0.9)))
    assert np.array_equal(videos(motion="90%"), videos(motion=MOTION.at(0.9)))
    assert not np.array_equal(videos(motion="90%"), videos(motion="10%"))
    with pytest.raises(VidgenError, match="no condition 'aesthetics'"):
        videos(aesthetics="50%")


def test_asking_for_more_draws_more_and_a_missing_score_draws_all():
    rng = np.random.default_rng(1)
    level = torch.tensor(rng.uniform(-1, 1, 64), dtype=torch.float32)
    score = torch.where(torch.arange(64) % 4 == 0, torch.nan, level.exp())  # a quarter has none
    space = SPACE.model_copy(update={"scalars": (Scalar.of("level", score),), "text_dim": 0})
    torch.manual_seed(0)
    learner = flow_matching.Config(network=factorized_dit.Config(dim=32, depth=1, heads=2)).build(space)
    optimizer = torch.optim.Adam(learner.parameters(), 3e-3)
    video = level[:, None, None, None, None].expand(-1, *space.shape).contiguous()
    for step in range(120):
        batch = Batch(video, None, torch.arange(64) + 64 * step, {"level": score})
        for _, loss in learner.losses(batch, Chance(0)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def drawn(scalars):
        ask = Ask(index=torch.arange(16), shape=space.shape, steps=8, scalars=scalars)
        with torch.no_grad():
            return learner.generate(ask, Chance(1)).mean((1, 2, 3, 4))

    low, high = (drawn({"level": torch.full((16,), float(np.exp(at)))}) for at in (-0.8, 0.8))
    assert low.mean() < -0.4
    assert high.mean() > 0.4
    assert drawn(None).std() > 2 * max(low.std(), high.std())
