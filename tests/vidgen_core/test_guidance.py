"""Laws of guidance on networks whose outputs are known."""

import pytest
import torch

from vidgen_core.guidance import guided
from vidgen_core.interfaces import Text
from vidgen_core.paths import RectifiedFlow
from vidgen_core.predictions import read
from vidgen_core.sampling import Guidance

DRAWS = torch.Generator().manual_seed(0)
TOWARD, AWAY = torch.randn(2, 1, 2, 4, 3, 3, generator=DRAWS)
X, T = torch.randn(2, 2, 4, 3, 3, generator=DRAWS), torch.full((2,), 0.5)
TEXT = Text(torch.ones(2, 1, 1), torch.ones(2, 1, dtype=torch.bool))


def network(x, t, text):
    """An output for prompts, another for empty ones, both moved by x."""
    said = text.mask.any(1)[:, None, None, None, None]
    return torch.where(said, TOWARD, AWAY).expand(x.shape) + 0.1 * x


def answer(scale, **how):
    return guided(network, TEXT, scale=scale, how=Guidance(**how))(X, T)


def difference():
    return (TOWARD - AWAY).expand(X.shape)


def test_scale_one_is_the_prompt_alone_and_zero_the_empty_one():
    assert torch.equal(answer(1.0), network(X, T, TEXT))
    assert torch.allclose(answer(0.0), network(X, T, TEXT.empty()))


def test_a_scale_goes_along_the_line_through_both_outputs():
    assert torch.allclose(answer(3.0), network(X, T, TEXT) + 2 * difference(), atol=1e-6)


def test_guidance_of_the_velocity_is_guidance_of_the_data_and_of_the_noise():
    path, t = RectifiedFlow(), torch.tensor(0.3)
    toward, away = (read("velocity", network(X, T, text), path=path, x=X, t=t) for text in (TEXT, TEXT.empty()))
    both = read("velocity", answer(2.5), path=path, x=X, t=t)
    for reading in ("data", "noise"):
        c, n = getattr(toward, reading), getattr(away, reading)
        assert torch.allclose(getattr(both, reading), n + 2.5 * (c - n), atol=1e-5)


def test_a_negative_prompt_takes_the_place_of_the_empty_one():
    negative = TEXT.empty()
    assert torch.equal(guided(network, TEXT, scale=2.0, negative=negative)(X, T), answer(2.0))
    assert torch.allclose(guided(network, TEXT, scale=2.0, negative=TEXT)(X, T), network(X, T, TEXT), atol=1e-6)


def test_outside_its_times_there_is_no_guidance():
    inside, outside = Guidance(start=0.6, stop=0.4), Guidance(start=0.4, stop=0.1)
    assert torch.equal(guided(network, TEXT, scale=4.0, how=inside)(X, T), answer(4.0))
    assert torch.equal(guided(network, TEXT, scale=4.0, how=outside)(X, T), network(X, T, TEXT))


def test_scales_of_frames_go_along_a_line():
    out = answer(1.0, last_scale=4.0)
    scales = ((out - network(X, T, TEXT.empty())) / difference()).mean((0, 1, 3, 4))
    assert torch.allclose(scales, torch.tensor([1.0, 2.0, 3.0, 4.0]), atol=1e-3)
    assert torch.equal(answer(1.0, last_scale=1.0), network(X, T, TEXT))


def test_rescaling_gives_the_deviation_of_the_output_for_the_prompt():
    axes = (1, 2, 3, 4)
    assert torch.allclose(answer(6.0, rescale=1.0).std(axes), network(X, T, TEXT).std(axes), rtol=1e-4)
    assert torch.allclose(answer(6.0, rescale=0.5), (answer(6.0) + answer(6.0, rescale=1.0)) / 2, atol=1e-5)


def test_projection_keeps_the_part_along_the_output_and_a_whole_share_is_plain():
    toward = network(X, T, TEXT)
    along = ((answer(5.0, variant="projected") - toward) * toward).sum((1, 2, 3, 4))
    assert torch.allclose(along, torch.zeros(2), atol=1e-3)
    assert torch.allclose(answer(5.0, variant="projected", parallel=1.0), answer(5.0), atol=1e-5)


def test_a_longest_difference_bounds_how_far_guidance_goes():
    moved = answer(3.0, variant="projected", parallel=1.0, longest=0.1) - network(X, T, TEXT)
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.full((2,), 0.2), atol=1e-5)


def test_the_scaled_empty_output_is_the_multiple_nearest_the_other():
    at_zero = answer(0.0, variant="zero_star")
    rest = network(X, T, TEXT) - at_zero
    assert torch.allclose((rest * at_zero).sum((1, 2, 3, 4)), torch.zeros(2), atol=1e-3)


def test_without_text_there_is_nothing_to_guide():
    def plain(x, t, text):
        assert text is None
        return x

    assert torch.equal(guided(plain, None, scale=7.0)(X, T), X)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="variant"):
        Guidance(variant="stronger")
