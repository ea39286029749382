"""Laws that every family obeys; the folder says which there are."""

import pytest
import torch

from vidgen_core import discovery
from vidgen_core.chance import Chance
from vidgen_core.encoders.hashed_words import Config as HashedWords
from vidgen_core.interfaces import Ask, Batch, Space, Text

SPACE = Space(channels=4, frames=3, height=4, width=4, text_dim=64)
FAMILIES = discovery.names("vidgen_core.families")
ENCODER = HashedWords.tiny().build()


@pytest.fixture(params=FAMILIES, name="family")
def _family(request):
    torch.manual_seed(0)
    family = discovery.load("vidgen_core.families", request.param).Config.tiny().build(SPACE)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return family


def batch(count=4):
    video = torch.randn(count, *SPACE.shape, generator=torch.Generator().manual_seed(1))
    return Batch(video, ENCODER.encode(["a red square moves left"] * count), torch.arange(count))


def ask(text: Text, **changes):
    return Ask(index=torch.arange(len(text.mask)), shape=SPACE.shape, text=text, steps=3, **changes)


def test_players_own_each_trainable_parameter_exactly_once(family):
    owned = [id(p) for player in family.players().values() for p in player.parameters.values()]
    assert sorted(owned) == sorted(id(p) for p in family.parameters() if p.requires_grad)


def test_losses_are_finite_scalars_of_players_and_reach_every_parameter(family):
    for player, loss in family.losses(batch(), Chance(0)):
        assert loss.ndim == 0
        assert torch.isfinite(loss)
        loss.backward()
        owned = family.players()[player].parameters
        assert [name for name, p in owned.items() if p.grad is None] == []


def test_the_same_seed_gives_the_same_loss_and_sample_and_another_seed_does_not(family):
    losses = [next(iter(family.losses(batch(), Chance(seed))))[1].item() for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
    text = ENCODER.encode(["a red square moves left"])
    samples = [family.generate(ask(text), Chance(seed)) for seed in (3, 3, 4)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_neighbors(family):
    text = ENCODER.encode(["a red square moves left", "a blue circle moves up"])
    together = family.generate(ask(text), Chance(0))
    alone = family.generate(ask(Text(text.tokens[:1], text.mask[:1])), Chance(0))
    assert torch.allclose(together[:1], alone, atol=1e-4)


@torch.no_grad()
def test_the_prompt_and_the_guidance_change_the_output(family):
    red, blue = ENCODER.encode(["a red square moves left"]), ENCODER.encode(["a blue circle moves up"])
    plain = family.generate(ask(red), Chance(0))
    assert not torch.allclose(plain, family.generate(ask(blue), Chance(0)))
    assert family.has_guidance != torch.allclose(plain, family.generate(ask(red, guidance=3.0), Chance(0)))
    assert plain.shape == (1, *SPACE.shape)


@torch.no_grad()
def test_held_out_gives_a_value_a_sample_and_its_draws_are_those_of_its_source(family):
    values = family.held_out(batch(), Chance(0).within("held_out"))
    assert {value.shape for value in values.values()} == {(4,)}
    again = family.held_out(batch(), Chance(0).within("held_out"))
    assert all(torch.equal(values[name], again[name]) for name in values)


def test_it_learns_one_batch(family):
    optimizer = torch.optim.Adam(family.parameters(), 1e-3)
    losses = []
    for step in range(30):
        for _, loss in family.losses(batch(), Chance(0, ("fixed", step % 3))):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
