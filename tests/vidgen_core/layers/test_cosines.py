"""The basis of video blocks against scipy's cosine transform."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from vidgen_core.layers.cosines import cosine_basis

BLOCK = (2, 4, 8)


def test_the_whole_basis_is_orthonormal():
    basis = cosine_basis(3 * 64, *BLOCK)
    assert torch.allclose(basis @ basis.T, torch.eye(192), atol=1e-5)


def test_it_is_the_cosine_transform_of_scipy_on_gray_blocks():
    gray = np.random.default_rng(0).normal(size=BLOCK).astype(np.float32)
    ours = cosine_basis(3 * 64, *BLOCK) @ torch.from_numpy(np.stack([gray] * 3)).flatten()
    theirs = 3**0.5 * dctn(gray, norm="ortho").ravel()
    # A gray block has no color differences: a third of the coefficients are scipy's and the others zero.
    assert np.allclose(np.sort(np.abs(ours.numpy()))[-64:], np.sort(np.abs(theirs)), atol=1e-4)
    assert np.count_nonzero(np.abs(ours.numpy()) > 1e-4) == 64


@pytest.mark.parametrize("count", [1, 3, 8, 40])
def test_a_shorter_basis_is_the_beginning_of_a_longer_one(count):
    assert torch.equal(cosine_basis(count, *BLOCK), cosine_basis(100, *BLOCK)[:count])


def test_the_means_of_the_three_colors_come_before_all_waves():
    flat = cosine_basis(3, 2, 4, 4)
    assert all(torch.allclose(row.view(3, -1), row.view(3, -1)[:, :1].expand(-1, 32)) for row in flat)
