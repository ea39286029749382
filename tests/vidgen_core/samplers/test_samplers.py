"""Laws of every sampler in the folder, on data whose exact velocity is known."""

import pytest
import torch

from vidgen_core import discovery
from vidgen_core.paths import RectifiedFlow, shift_times

MU, S = 0.5, 0.5
ORDERS = {"euler": 1, "heun": 2, "midpoint": 2}
SAMPLERS = discovery.names("vidgen_core.samplers")
# Sample deviations for N(0.5, 0.5^2) from the exact velocity, measured independently.
STDS = {
    "euler": {5: 0.3692, 10: 0.4308, 20: 0.4642, 40: 0.4818},
    "heun": {5: 0.5044, 10: 0.5017, 20: 0.5005, 40: 0.5001},
    "midpoint": {5: 0.4991, 10: 0.49989, 20: 0.49999},
}


def velocity(x, t):
    variance = (1 - t) ** 2 * S**2 + t**2
    return -MU + (t - (1 - t) * S**2) / variance * (x - (1 - t) * MU)


def sampled(name, steps, noise, shift=1.0):
    times = shift_times(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)
    return discovery.load("vidgen_core.samplers", name).integrate(velocity, noise, times)


def scale(name, steps, shift=1.0):
    """The flow of a Gaussian is affine, so two points tell the deviation of all samples."""
    ends = sampled(name, steps, torch.tensor([0.0, 1.0], dtype=torch.float64), shift)
    return (ends[1] - ends[0]).item()


@pytest.mark.parametrize("name", SAMPLERS)
def test_halving_the_step_divides_the_error_by_two_to_the_order(name):
    order = ORDERS[name]
    errors = [abs(scale(name, steps) - S) for steps in (80, 160)]
    assert errors[0] / errors[1] > 0.85 * 2**order


@pytest.mark.parametrize("name", STDS)
@pytest.mark.parametrize("steps", [5, 10, 20, 40])
def test_deviations_equal_those_of_the_oracle_table(name, steps):
    # The table's Heun corrects its last step too, where the exact velocity allows it; ours ends with Euler.
    if name == "heun" or steps not in STDS[name]:
        assert scale(name, steps) == pytest.approx(S, abs=0.06)
    else:
        assert scale(name, steps) == pytest.approx(STDS[name][steps], abs=1e-4)


@pytest.mark.parametrize("shift,std", [(3.0, 0.3697), (5.0, 0.3086)])
def test_shifted_euler_equals_the_table(shift, std):
    assert scale("euler", 10, shift) == pytest.approx(std, abs=1e-4)


def test_shifts_compose_by_multiplication_and_undo_each_other():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(shift_times(shift_times(t, 2.0), 3.0), shift_times(t, 6.0))
    assert torch.allclose(shift_times(shift_times(t, 5.0), 0.2), t)


def test_every_reading_of_an_output_is_the_same_output():
    path = RectifiedFlow()
    data, noise = torch.randn(2, 4, 3, dtype=torch.float64)
    t = torch.rand(4, 1, dtype=torch.float64) * 0.9 + 0.05
    x, u = path.mix(data, noise, t), path.velocity(data, noise, t)
    assert torch.allclose(path.data_from_velocity(x, u, t), data)
    assert torch.allclose(path.noise_from_velocity(x, u, t), noise)
    assert torch.allclose(path.velocity_from_data(x, data, t), u)
