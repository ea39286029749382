"""Laws of patches."""

import pytest
import torch

from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Space
from vidgen_core.layers.patches import Patched, patchify, unpatchify
from vidgen_core.networks import coupling_flow, factorized_dit, information_model, tarflow

SPACE = Space(channels=2, frames=4, height=6, width=8, text_dim=0)


def test_patches_are_put_together_again_and_there_are_as_many_as_told():
    config = Patched(patch_frames=2, patch_px=2)
    video = torch.randn(3, *SPACE.shape)
    patches = patchify(video, config.patch)
    assert torch.equal(unpatchify(patches, config.patch), video)
    assert patches.shape[1:4] == config.grid(SPACE)
    assert patches[0, ..., 0].numel() == config.places(SPACE.shape)


@pytest.mark.parametrize("network", [coupling_flow, factorized_dit, information_model, tarflow])
@pytest.mark.parametrize("patch", [{"patch_frames": 3}, {"patch_px": 4}])
def test_patches_that_do_not_fill_a_sample_are_a_sentence(network, patch):
    with pytest.raises(VidgenError, match="do not fill"):
        network.Config(**patch).build(SPACE)
