import torch

from vidgen_core.chance import Chance


def test_a_draw_depends_on_its_sample_alone_and_not_on_the_batch_around_it():
    chance = Chance(1)
    whole = chance.normal("noise", torch.arange(8), (3, 2))
    halves = torch.cat([chance.normal("noise", torch.arange(part, part + 4), (3, 2)) for part in (0, 4)])
    assert torch.equal(whole, halves)


def test_seeds_purposes_and_scopes_draw_apart():
    index = torch.arange(4)
    draws = [
        Chance(0).normal("noise", index, ()),
        Chance(1).normal("noise", index, ()),
        Chance(0).normal("time", index, ()),
        Chance(0).within("held_out").normal("noise", index, ()),
    ]
    for place, one in enumerate(draws):
        for other in draws[place + 1 :]:
            assert not torch.equal(one, other)


def test_normal_draws_are_normal_and_uniform_draws_uniform():
    index = torch.arange(2000)
    normal, uniform = Chance(0).normal("a", index, (4,)), Chance(0).uniform("b", index, (4,))
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert abs(uniform.mean() - 0.5) < 0.02
    assert uniform.min() >= 0 and uniform.max() < 1


def test_draws_are_where_they_are_wanted_and_else_where_their_numbers_are():
    index = torch.arange(3)
    for scoped in (Chance(0), Chance(0).within("held_out")):
        assert scoped.normal("a", index, (2,)).device == index.device
        assert scoped.on("meta").within("deeper").uniform("a", index, (2,)).device.type == "meta"
        assert torch.equal(scoped.on("cpu").normal("a", index, (2,)), scoped.normal("a", index, (2,)))
