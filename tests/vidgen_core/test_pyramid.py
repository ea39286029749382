"""Laws of the spatial pyramid: published stages, white noise after a jump, and the whole way for a Gaussian field."""

import pytest
import torch

from vidgen_core.pyramid import block_noise, coarser, coarser_noise, finer, renoise, stages

THIRD = 1 / 3


@pytest.mark.parametrize(
    "count,starts,ends,times",
    [
        (2, [1, 2 / 3], [0.5, 0], [1 - 0.42857]),
        (3, [1, 0.8, 0.5], [2 / 3, THIRD, 0], [1 - 0.2564, 1 - 0.6154]),
        (4, [1, 0.85714, 2 / 3, 0.4], [0.75, 0.5, 0.25, 0], [1 - 0.17559, 1 - 0.42642, 1 - 0.71906]),
    ],
)
def test_stages_are_those_of_the_paper(count, starts, ends, times):
    found = stages(count)
    assert [stage.start_noise for stage in found] == pytest.approx(starts, abs=1e-4)
    assert [stage.end_noise for stage in found] == pytest.approx(ends, abs=1e-4)
    assert [stage.end_time for stage in found] == pytest.approx([*times, 0], abs=1e-4)
    assert [stage.start_time for stage in found] == pytest.approx([1, *times], abs=1e-4)
    assert [stage.halvings for stage in found] == list(range(count))[::-1]


def test_one_stage_is_plain_rectified_flow():
    (stage,) = stages(1)
    data, noise = torch.randn(2, 1, 2, 1, 4, 4)
    start, end = stage.ends(data, noise)
    assert torch.equal(start, noise)
    assert torch.equal(end, data)
    rest = torch.rand(5)
    assert torch.allclose(stage.time(rest), rest)


def test_coarser_undoes_finer_and_coarser_noise_has_unit_variance():
    video = torch.randn(1, 2, 3, 4, 4)
    assert torch.equal(coarser(finer(video)), video)
    noise = coarser_noise(torch.randn(1, 1, 50, 64, 64, generator=torch.Generator().manual_seed(0)), 2)
    assert noise.shape[3:] == (16, 16)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_block_noise_has_unit_variance_and_blocks_that_sum_to_zero():
    noise = block_noise(torch.randn(20_000, 1, 1, 2, 2, dtype=torch.float64)).flatten(1)
    expected = (1 + THIRD) * torch.eye(4, dtype=torch.float64) - THIRD
    assert torch.allclose(noise.T.cov(), expected, atol=0.03)
    assert torch.allclose(noise.sum(1), torch.zeros(20_000, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_jump_leaves_white_noise_of_the_next_stages_weight(count):
    """The noise of a finished stage is constant in blocks once upsampled; with what is added it is white."""
    for before, after in zip(stages(count)[:-1], stages(count)[1:], strict=True):
        columns = torch.eye(5, dtype=torch.float64)
        # The map is linear: one old value (the block's) and four new ones to four values.
        old, new = columns[:, :1].reshape(5, 1, 1, 1, 1), columns[:, 1:].reshape(5, 1, 1, 2, 2)
        out = renoise(before.end_noise * old, after, count, new).flatten(1)
        assert torch.allclose(out.T @ out, after.start_noise**2 * torch.eye(4, dtype=torch.float64), atol=1e-12)


def test_a_clean_sample_enters_with_the_weight_that_the_stage_gives_it():
    before, after = stages(3)[1:]
    data = torch.randn(1, 1, 1, 4, 4, dtype=torch.float64)
    entered = renoise((1 - before.end_noise) * data, after, 3, torch.zeros(1, 1, 1, 8, 8, dtype=torch.float64))
    assert torch.allclose(entered, (1 - after.start_noise) * finer(data))


SIDE = 8


def matrix(operation, side):
    """A linear map of pictures as a matrix."""
    pictures = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, 1, side, side)
    return operation(pictures).flatten(1).T


def jump(stage, side, count):
    """What `renoise` makes of the picture before, and of noise."""
    none, small = torch.zeros(1, 1, 1, side, side).double(), torch.zeros(1, 1, 1, side // 2, side // 2).double()
    grow = matrix(lambda video: renoise(video, stage, count, none), side // 2)
    return grow, matrix(lambda noise: renoise(small, stage, count, noise), side)


def field():
    """Mean and covariance of a smooth Gaussian field at full size."""
    places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
    covariance = 0.5 * torch.exp(-torch.cdist(places, places) / 2)
    return torch.sin(places.sum(1) / 3), covariance


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_gaussian_field_comes_out_with_its_covariance(count):
    """Every stage's best velocity is linear for Gaussian data; mean and covariance are carried through all stages."""
    full_mean, full_covariance = field()
    mean, covariance = None, None
    for stage in stages(count):
        side = SIDE >> stage.halvings
        shrink = torch.eye(SIDE * SIDE, dtype=torch.float64)
        for halving in range(stage.halvings):
            shrink = matrix(coarser, SIDE >> halving) @ shrink
        data_mean, data_covariance = shrink @ full_mean, shrink @ full_covariance @ shrink.T
        unit = torch.eye(side * side, dtype=torch.float64)
        if stage.number == 0:
            mean, covariance = torch.zeros(side * side, dtype=torch.float64), unit
            blur = torch.zeros_like(unit)
        else:
            grow, noise = jump(stage, side, count)
            mean, covariance = grow @ mean, grow @ covariance @ grow.T + noise @ noise.T
            blur = matrix(lambda p: finer(coarser(p)), side)

        def velocity(rest, stage=stage, unit=unit, blur=blur, m=data_mean, s=data_covariance):
            """Matrix and offset of the best prediction of start - end."""
            weight = rest * stage.start_noise + (1 - rest) * stage.end_noise
            seen = rest * (1 - stage.start_noise) * blur + (1 - rest) * (1 - stage.end_noise) * unit
            moved = (1 - stage.start_noise) * blur - (1 - stage.end_noise) * unit
            travel = stage.start_noise - stage.end_noise
            gain = (weight * travel * unit + moved @ s @ seen.T) @ torch.linalg.inv(
                weight**2 * unit + seen @ s @ seen.T
            )
            return gain, moved @ m - gain @ seen @ m

        steps = 20
        for step in range(steps):
            now, middle = 1 - step / steps, 1 - (step + 0.5) / steps
            first, first_offset = velocity(now)
            second, second_offset = velocity(middle)
            half = unit - first / (2 * steps)
            whole = unit - second @ half / steps
            offset = (second @ (first_offset / (2 * steps)) - second_offset) / steps
            mean, covariance = whole @ mean + offset, whole @ covariance @ whole.T
    assert ((covariance - full_covariance).norm() / full_covariance.norm()).item() < 1e-3
    assert ((mean - full_mean).norm() / full_mean.norm()).item() < 1e-2


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_data_and_velocity_of_a_stage_are_two_readings_of_one_line(count):
    data, noise = torch.randn(2, 3, 2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rest = torch.tensor([0.9, 0.5, 0.01], dtype=torch.float64)[:, None, None, None, None]
    for stage in stages(count):
        start, end = stage.ends(data, noise)
        x = rest * start + (1 - rest) * end
        assert torch.allclose(stage.velocity(data, x, rest), start - end)
        assert torch.allclose(stage.data(start - end, x, rest), data)
