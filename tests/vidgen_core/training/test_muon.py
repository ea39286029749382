import pytest
import torch

from vidgen_core.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_it_moves_matrices_as_torchs_muon_does(shape):
    numbers = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape, generator=numbers))
    theirs = torch.nn.Parameter(ours.detach().clone())
    muon = Muon([(ours, lambda part: part, lambda whole: whole)], lr=0.1)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, adjust_lr_fn="original")
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=numbers)
        theirs.grad = ours.grad.clone()
        muon.step()
        other.step()
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(16, 16), (40, 10)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix).float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_each_worker_moves_its_rows_as_the_whole_matrix_moves():
    numbers = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(6, 4, generator=numbers), torch.randn(6, 4, generator=numbers)
    whole = torch.nn.Parameter(start.clone())
    whole.grad = gradient.clone()
    Muon([(whole, lambda part: part, lambda all_rows: all_rows)], lr=0.1).step()
    for rows in (slice(0, 3), slice(3, 6)):
        own = torch.nn.Parameter(start[rows].clone())
        own.grad = gradient[rows].clone()
        # What the workers would gather; orthogonalizing does not see its scale.
        Muon([(own, lambda _: gradient, lambda all_rows, rows=rows: all_rows[rows])], lr=0.1).step()
        assert torch.allclose(own, whole[rows], atol=1e-2)
