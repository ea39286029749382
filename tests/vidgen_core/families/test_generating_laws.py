"""Laws that every family obeys when it generates."""

import pytest
import torch

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Ask, Text

SAMPLERS = discovery.names("vidgen_core.samplers")


@pytest.fixture
def family(generating):
    return generating.learner().eval().requires_grad_(False)


@pytest.fixture
def ask(generating, encoder):
    """An ask for as many samples as there are captions."""

    def make(*captions, **changes):
        text = encoder.encode(list(captions)) if generating.reads_text else None
        plain = {"index": torch.arange(len(captions)), "shape": generating.shape, "text": text, "steps": 3}
        return Ask(**{**plain, **changes})

    return make


RED, BLUE = "a red square moves left", "a blue circle moves up"


def test_samples_have_the_shape_that_was_asked_for_and_the_size_of_data(family, ask, generating):
    made = family.generate(ask(RED, BLUE, RED), Chance(0))
    assert made.shape == (3, *generating.shape)
    assert made.dtype == torch.float32
    assert made.isfinite().all()
    # Data has a variance of one; weights that learned nothing must not blow it up.
    assert 1e-3 < made.std() < 30


def test_the_same_seed_gives_the_same_sample_and_another_seed_or_number_does_not(family, ask):
    first = family.generate(ask(RED, RED), Chance(3))
    torch.rand(1)
    assert torch.equal(first, family.generate(ask(RED, RED), Chance(3)))
    assert not torch.allclose(first, family.generate(ask(RED, RED), Chance(4)))
    assert not torch.allclose(first[0], first[1])


def test_a_sample_does_not_depend_on_its_neighbors(family, ask):
    together = family.generate(ask(RED, BLUE), Chance(0))
    assert torch.allclose(together[:1], family.generate(ask(RED), Chance(0)), atol=1e-4)


def test_the_prompt_changes_the_output_and_what_stands_behind_it_does_not(family, ask):
    if not family.reads_text:
        pytest.skip("it reads no text")
    said = ask(RED).text
    red = family.generate(ask(RED), Chance(0))
    assert not torch.allclose(red, family.generate(ask(BLUE), Chance(0)))
    assert not torch.allclose(red, family.generate(ask(RED, text=said.empty()), Chance(0)))
    behind = torch.where(said.mask[..., None], said.tokens, torch.randn_like(said.tokens))
    assert torch.allclose(red, family.generate(ask(RED, text=Text(behind, said.mask)), Chance(0)), atol=1e-4)


def test_an_emptied_text_is_no_text_in_training_too(family, generating):
    if not family.reads_text:
        pytest.skip("it reads no text")
    batch, chance = generating.batch(), Chance(0)
    values = []
    for tokens in (batch.text.tokens, torch.randn_like(batch.text.tokens)):
        text = Text(tokens, torch.zeros_like(batch.text.mask))
        values.append(family.held_out(type(batch)(batch.video, text, batch.index), chance)["loss"])
    assert torch.allclose(values[0], values[1], rtol=1e-4)


def test_guidance_changes_the_output_where_there_is_one(family, ask):
    if not family.reads_text:
        pytest.skip("it reads no text")
    plain = family.generate(ask(RED), Chance(0))
    assert family.has_guidance != torch.allclose(plain, family.generate(ask(RED, guidance=3.0), Chance(0)))


def test_a_negative_prompt_changes_what_is_led_away_from(family, ask, encoder):
    if not (family.reads_text and family.accepts_negative):
        pytest.skip("it is not led away from a prompt")
    away = encoder.encode([BLUE])
    plain, led = (family.generate(ask(RED, guidance=3.0, negative=text), Chance(0)) for text in (None, away))
    assert not torch.allclose(plain, led)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_from_it_or_is_refused_with_a_sentence(family, ask, sampler):
    try:
        assert family.generate(ask(RED, sampler=sampler), Chance(0)).isfinite().all()
    except VidgenError as refused:
        assert sampler == "ddpm", "only a sampler that adds noise may be refused"
        assert "sampler adds noise" in str(refused)


@pytest.fixture
def known(family, generating):
    """Values that may be given, and a mask of any elements."""
    if not family.accepts_known:
        pytest.skip("it takes no known elements")
    draws = torch.Generator().manual_seed(5)
    values = torch.randn(1, *generating.shape, generator=draws)
    return values, torch.rand(1, 1, *generating.shape[1:], generator=draws) < 0.4


@pytest.mark.parametrize("rounds", [1, 2])
def test_what_is_known_is_kept_and_the_rest_answers_to_it(family, ask, known, rounds):
    values, some = known
    first = torch.zeros_like(some)
    first[:, :, :1] = True
    for mask in (first, some):
        made, other = (
            family.generate(ask(RED, known=told, known_mask=mask, rounds=rounds), Chance(0))
            for told in (values, -values)
        )
        kept = mask.expand_as(made)
        assert torch.allclose(made[kept], values[kept], atol=1e-6)
        assert not torch.allclose(made[~kept], other[~kept])


def test_knowing_nothing_is_plain_sampling_and_knowing_all_leaves_nothing_to_draw(family, ask, known):
    values, mask = known
    plain = family.generate(ask(RED, guidance=2.0), Chance(0))
    nothing = ask(RED, guidance=2.0, known=values, known_mask=torch.zeros_like(mask), rounds=2)
    assert torch.equal(family.generate(nothing, Chance(0)), plain)
    everything = ask(RED, known=values, known_mask=torch.ones_like(mask))
    assert torch.allclose(family.generate(everything, Chance(0)), values, atol=1e-6)


@pytest.mark.parametrize("name", discovery.names("vidgen_core.families"))
def test_a_published_size_has_the_published_number_of_parameters(name):
    module = discovery.load("vidgen_core.families", name)
    if "paper" in vars(module.Config):
        assert "paper" in module.PUBLISHED, "say how many parameters the paper counts"
    for size, published in getattr(module, "PUBLISHED", {}).items():
        with torch.device("meta"):
            family = getattr(module.Config, size)().build(published.space)
        count = sum(value.numel() for value in family.parameters())
        assert count == pytest.approx(published.parameters, rel=0.02), size
