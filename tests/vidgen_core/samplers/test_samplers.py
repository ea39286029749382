"""Laws of every sampler in the folder, on data whose exact predictions are known, and beside diffusers'."""

import pytest
import torch

from vidgen_core import betas, discovery
from vidgen_core.paths import RectifiedFlow, Trigonometric, VarianceExploding, VariancePreserving, shift_times
from vidgen_core.predictions import read

SAMPLERS = discovery.names("vidgen_core.samplers")
ORDERS = {"euler": 1, "heun": 2, "midpoint": 2, "ddim": 1, "dpm_solver_2m": 2, "unipc": 2}
CHANCY = {"ddpm"}
FLOW, EDM = RectifiedFlow(), VarianceExploding()
# Sample deviations for N(0.5, 0.5^2) from the exact velocity of rectified flow, measured independently.
STDS = {
    "euler": {5: 0.3692, 10: 0.4308, 20: 0.4642, 40: 0.4818},
    "ddim": {5: 0.3692, 10: 0.4308, 20: 0.4642, 40: 0.4818},
    "midpoint": {5: 0.4991, 10: 0.49989, 20: 0.49999},
}


def exact(path, mean, std):
    """The best prediction for data N(mean, std^2)."""

    def denoise(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        data = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
        return read("data", data, path=path, x=x, t=t)

    return denoise


def run(name, path, denoise, start, times, seed=0):
    draws = torch.Generator().manual_seed(seed)
    integrate = discovery.load("vidgen_core.samplers", name).integrate
    return integrate(
        denoise, path.prior_std * start, times, lambda _: torch.randn(start.shape, generator=draws).double()
    )


def deviation(name, steps, *, path=FLOW, mean=0.5, std=0.5, shift=1.0):
    """The flow of a Gaussian is affine, so two points tell the deviation of all samples."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    ends = run(name, path, exact(path, mean, std), ends, shift_times(path.grid(steps), shift))
    return (ends[1] - ends[0]).item()


def test_the_laws_name_every_sampler():
    assert set(SAMPLERS) == set(ORDERS) | CHANCY


@pytest.mark.parametrize("name", ORDERS)
def test_halving_the_step_divides_the_error_by_two_to_the_order(name):
    # Both ends are smooth on the quarter circle, where half the log ratio is finite but at the ends themselves.
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def end(steps):
        times = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        ends = run(name, Trigonometric(), exact(Trigonometric(), 0.5, 0.5), start, times)
        return (ends[1] - ends[0]).item()

    truth = (moment(0.1) / moment(0.9)) ** 0.5
    errors = [abs(end(steps) - truth) for steps in (80, 160)]
    assert errors[0] / errors[1] > 0.85 * 2 ** ORDERS[name]


def moment(t):
    path, t = Trigonometric(), torch.tensor(t, dtype=torch.float64)
    return (path.alpha(t) ** 2 * 0.25 + path.sigma(t) ** 2).item()


@pytest.mark.parametrize("name,steps", [(name, steps) for name, row in STDS.items() for steps in row])
def test_deviations_on_straight_paths_equal_those_of_the_oracle_table(name, steps):
    assert deviation(name, steps) == pytest.approx(STDS[name][steps], abs=1e-4)


@pytest.mark.parametrize("shift,std", [(3.0, 0.3697), (5.0, 0.3086)])
def test_shifted_euler_equals_the_table(shift, std):
    assert deviation("euler", 10, shift=shift) == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize(
    "name,steps,std",
    [("heun", 8, 0.6970), ("heun", 18, 0.5276), ("heun", 40, 0.5049)]
    + [("euler", 8, 0.3328), ("euler", 18, 0.4230), ("euler", 40, 0.4649)],
)
def test_deviations_of_exploding_variance_equal_the_table(name, steps, std):
    assert deviation(name, steps, path=EDM) == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize(
    "name,stds",
    [
        ("ddim", {10: 0.3853, 20: 0.4344, 50: 0.4699, 250: 0.4932}),
        ("dpm_solver_2m", {10: 0.4106, 20: 0.4590, 50: 0.4856, 250: 0.4980}),
        ("unipc", {10: 0.4135, 20: 0.4595, 50: 0.4851, 250: 0.4978}),
    ],
)
def test_deviations_of_discrete_diffusion_equal_the_table(name, stds):
    path = VariancePreserving(betas.scaled_linear())
    measured = {steps: deviation(name, steps, path=path, mean=0.3) for steps in stds}
    assert measured == pytest.approx(stds, abs=1e-4)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize(
    "path", [FLOW, Trigonometric(), EDM, VariancePreserving(betas.cosine())], ids=lambda p: type(p).__name__
)
def test_every_path_ends_at_the_data(name, path):
    steps = 400
    assert deviation(name, steps, path=path) == pytest.approx(0.5, abs=0.02)


def test_ancestral_sampling_has_the_datas_deviation():
    path = VariancePreserving(betas.linear())
    start = torch.randn(20_000, generator=torch.Generator().manual_seed(1)).double()
    samples = run("ddpm", path, exact(path, 0.5, 0.5), start, path.grid(500))
    assert samples.mean().item() == pytest.approx(0.5, abs=0.02)
    assert samples.std().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("name", ["ddim", "dpm_solver_2m", "unipc"])
@pytest.mark.parametrize("steps", [5, 20])
def test_samplers_equal_those_of_diffusers_on_random_linear_models(name, steps):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    common = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "epsilon"}
    common["timestep_spacing"] = "trailing"
    scheduler = {
        "ddim": lambda: diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True),
        "dpm_solver_2m": lambda: diffusers.DPMSolverMultistepScheduler(**common, final_sigmas_type="zero"),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(**common, final_sigmas_type="zero"),
    }[name]()
    scheduler.set_timesteps(steps)
    draws = torch.Generator().manual_seed(2)
    matrix = torch.randn(6, 6, generator=draws) / 6**0.5
    start = torch.randn(3, 6, generator=draws)
    theirs = start
    for t in scheduler.timesteps:
        theirs = scheduler.step(theirs @ matrix, t, theirs).prev_sample
    path = VariancePreserving(betas.scaled_linear())

    def denoise(x, t):
        return read("noise", x @ matrix.double(), path=path, x=x, t=t)

    ours = run(name, path, denoise, start.double(), path.grid(steps))
    assert torch.allclose(ours.float(), theirs, rtol=0, atol=1e-5 * theirs.abs().max())


def test_euler_of_exploding_variance_equals_that_of_diffusers_on_a_random_linear_model():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(12)
    draws = torch.Generator().manual_seed(3)
    matrix = torch.randn(6, 6, generator=draws) / 6**0.5
    start = torch.randn(3, 6, generator=draws)

    def network(x, sigma):
        """The preconditioned linear network: data from x."""
        root = (sigma**2 + 0.25) ** 0.5
        return 0.25 / root**2 * x + sigma * 0.5 / root * ((x / root) @ matrix.to(x.dtype))

    theirs = start * 80.0
    for place, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(theirs, t)
        theirs = scheduler.step(scaled @ matrix, t, theirs).prev_sample
        assert scheduler.sigmas[place] > 0

    def denoise(x, t):
        return read("data", network(x, EDM.sigma(t)), path=EDM, x=x, t=t)

    ours = run("euler", EDM, denoise, start.double(), EDM.grid(12))
    assert torch.allclose(ours.float(), theirs, rtol=0, atol=1e-5 * theirs.abs().max())


def test_one_process_in_three_scalings_ends_at_the_same_samples():
    """Straight path, exploding and preserving variance are one process, scaled; DDIM's walks are the same walk."""
    sigmas = torch.tensor([80.0, 20.0, 5.0, 1.0, 0.2, 0.05, 0.0], dtype=torch.float64)
    start = torch.randn(5, generator=torch.Generator().manual_seed(4)).double()
    ratio = sigmas[0]

    def ends(path, times):
        first = times[0]
        x = path.alpha(first) * (ratio * start)
        integrate = discovery.load("vidgen_core.samplers", "ddim").integrate
        return integrate(exact(path, 0.5, 0.5), x, times, None)

    flow = ends(FLOW, sigmas / (1 + sigmas))
    exploding = ends(EDM, sigmas / EDM.largest)
    circle = ends(Trigonometric(), torch.atan(sigmas) / (torch.pi / 2))
    assert torch.allclose(flow, exploding, atol=1e-10)
    assert torch.allclose(flow, circle, atol=1e-10)


@pytest.mark.parametrize("name", ["euler", "heun", "midpoint"])
@pytest.mark.parametrize("schedule", [betas.cosine(), betas.zero_terminal(betas.shifted(betas.cosine(), 16.0))])
def test_solvers_walk_discrete_diffusion_as_rectified_flow_with_as_much_noise(name, schedule):
    path, start = VariancePreserving(schedule), torch.randn(5, generator=torch.Generator().manual_seed(5)).double()
    times = path.grid(12)
    flow = run(name, FLOW, exact(FLOW, 0.5, 0.5), start / path.scale(times[0]), path.clock(times))
    assert torch.allclose(run(name, path, exact(path, 0.5, 0.5), start, times), flow, atol=1e-9)


def test_eulers_steps_are_those_of_ddim_on_discrete_diffusion():
    path, start = (
        VariancePreserving(betas.cosine()),
        torch.randn(5, generator=torch.Generator().manual_seed(6)).double(),
    )
    ends = [run(name, path, exact(path, 0.5, 0.5), start, path.grid(7)) for name in ("euler", "ddim")]
    assert torch.allclose(*ends, atol=1e-12)
