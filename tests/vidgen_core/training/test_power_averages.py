import numpy as np
import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.training.fit import fit
from vidgen_core.training.place import Place
from vidgen_core.training.power_averages import LONGEST, Profile, combine, decay, exponent, length, reconstruct
from vidgen_core.training.store import Folder, store_at


@pytest.mark.parametrize("wanted", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_exponent_of_a_length_has_that_length_and_its_profile_that_deviation(wanted):
    power = exponent(wanted)
    assert length(power) == pytest.approx(wanted, rel=1e-9)
    times = (np.arange(200_000) + 0.5) / 200_000
    density = (power + 1) * times**power / len(times)
    mean = (density * times).sum()
    assert np.sqrt((density * (times - mean) ** 2).sum()) == pytest.approx(wanted, rel=1e-3)


def test_a_length_that_no_average_has_is_a_sentence():
    assert exponent(LONGEST) == pytest.approx(0, abs=1e-6)
    for wanted in (0.0, -1.0, 0.3):
        with pytest.raises(VidgenError, match="above 0, up to 0.288"):
            exponent(wanted)


def walk(steps, lengths, every):
    """A random walk, the averages of some lengths at its end, and snapshots of 0.05 and 0.1 on the way."""
    numbers = torch.Generator().manual_seed(0)
    weights = torch.randn(steps, 5, generator=numbers, dtype=torch.float64).cumsum(0) / steps**0.5
    averages = dict.fromkeys([*lengths, 0.05, 0.1], weights[0])
    profiles, snapshots = [], []
    for step in range(1, steps + 1):
        for one, average in averages.items():
            averages[one] = torch.lerp(weights[step - 1], average, decay(step, exponent(one)))
        if step % every == 0:
            profiles += [Profile(step, exponent(one)) for one in (0.05, 0.1)]
            snapshots += [averages[one].float().double() for one in (0.05, 0.1)]
    return averages, profiles, torch.stack(snapshots)


def test_an_average_of_any_length_is_put_together_from_snapshots_of_two():
    lengths = [0.03, 0.07, 0.15, 0.2, 0.25]
    averages, profiles, snapshots = walk(3000, lengths, 50)
    for one in lengths:
        factors, error = combine(profiles, Profile(3000, exponent(one)))
        made = torch.from_numpy(factors) @ snapshots
        assert error < 0.03
        assert torch.allclose(made, averages[one], atol=1e-3)
    factors, error = combine(profiles, Profile(3000, exponent(0.05)))
    assert error < 1e-4
    assert torch.allclose(torch.from_numpy(factors) @ snapshots, averages[0.05], atol=1e-5)


def test_an_average_of_another_moment_is_put_together_too():
    averages, _, _ = walk(1000, [0.15], 1000)
    _, profiles, snapshots = walk(3000, [], 50)
    # Both walks begin alike but for their scale.
    factors, _ = combine(profiles, Profile(1000, exponent(0.15)))
    assert torch.allclose(torch.from_numpy(factors) @ snapshots * 3**0.5, averages[0.15], atol=2e-3)


@pytest.mark.parametrize("name", ["toy", "duel"])
def test_a_run_reconstructs_the_average_that_another_run_tracked(data, cases, tmp_path, name):
    changes = {"steps": 60, "checkpoint_every": 30, "held_out_every": 60, "ema_snapshot_every": 6}
    job = cases.job(data, tmp_path / "run", name=name, ema_lengths=(0.05, 0.1), **changes)
    direct = cases.job(data, tmp_path / "direct", name=name, ema_lengths=(0.15,), **changes)
    for one in (job, direct):
        fit(one, place=Place())
    made, expected = (reconstruct(store_at(one.averages), 0.15) for one in (job, direct))
    assert expected.error < 1e-6
    assert made.weights.keys() == expected.weights.keys() == dict(job.build().named_parameters()).keys()
    for weight, value in expected.weights.items():
        assert (made.weights[weight] - value).norm() < 0.02 * value.norm()


def test_a_broken_run_keeps_the_snapshots_of_an_unbroken_one(data, cases, tmp_path):
    class Stop(Exception):
        pass

    def stop(step):
        if step.number == 9:
            raise Stop

    changes = {"ema_lengths": (0.1,), "ema_snapshot_every": 2, "recompute": False}
    whole, broken = (cases.job(data, tmp_path / name, **changes) for name in ("whole", "broken"))
    fit(whole, place=Place())
    with pytest.raises(Stop):
        fit(broken, place=Place(), watch=stop)
    again = broken.settings.model_copy(update={"recompute": True})
    fit(broken.model_copy(update={"settings": again}), place=Place())
    one, other = (reconstruct(store_at(job.averages), 0.2) for job in (whole, broken))
    assert one.parts == other.parts == 6
    assert all(torch.equal(other.weights[name], value) for name, value in one.weights.items())


def test_a_run_without_snapshots_is_a_sentence(tmp_path):
    with pytest.raises(VidgenError, match="ema_lengths"):
        reconstruct(Folder(tmp_path), 0.1)
