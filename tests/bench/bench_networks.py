"""A training step of our networks against the same of diffusers: `python -m tests.bench.bench_networks`.

Equal parameters (to 3 %) and equal shapes; forward pass, backward pass and AdamW, seconds of the processor on one
thread, interleaved. The transformer is also compared at equal width and depth, where ours has a third more parameters:
its conditions are read by a matrix in each block, Latte's by one for all.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tests.bench.interleave import interleave, ratio, report, summary
from vidgen_core.interfaces import Space, Text
from vidgen_core.networks import factorized_dit, unet3d

__all__ = ["networks"]

ROUNDS, BATCH, WORDS = 7, 2, 16
SPACE = Space(channels=4, frames=8, height=16, width=16, text_dim=64)
LEAST_SHARE, MOST_SHARE = 0.97, 1.03


def networks() -> dict[str, Any]:
    """Step times and their ratios; {} with a reason where diffusers is not installed."""
    if find_spec("diffusers") is None:
        return {"networks_not_run": "diffusers is not installed"}
    ours = {
        "dit": factorized_dit.Config(dim=160, depth=3, heads=4, mlp_ratio=4.75).build(SPACE),
        "dit_of_equal_width": factorized_dit.Config(dim=192, depth=3, heads=4).build(SPACE),
        "unet": unet3d.Config(base=48).build(SPACE),
    }
    theirs = {"diffusers_dit": _latte(), "diffusers_unet": _unet()}
    counts = {
        name: sum(weight.numel() for weight in network.parameters()) for name, network in {**ours, **theirs}.items()
    }
    for name in ("dit", "unet"):
        share = counts[name] / counts[f"diffusers_{name}"]
        assert LEAST_SHARE < share < MOST_SHARE, f"{name} has {share:.2f} of the other's parameters"
    ways = {name: _step(network, _predict) for name, network in ours.items()}
    ways |= {name: _step(network, _predict_theirs) for name, network in theirs.items()}
    measured = interleave({name: lambda step=step: _processor_s(step) for name, step in ways.items()}, rounds=ROUNDS)
    ratios = {
        "dit_over_diffusers": ratio(measured, "dit", over="diffusers_dit"),
        "dit_over_diffusers_at_equal_width": ratio(measured, "dit_of_equal_width", over="diffusers_dit"),
        "unet_over_diffusers": ratio(measured, "unet", over="diffusers_unet"),
    }
    return {
        "network_parameters": counts,
        "network_step_s": {name: summary(values) for name, values in measured.items()},
        **{name: one["median"] for name, one in ratios.items()},
        "network_ratios": ratios,
    }


def _latte() -> nn.Module:
    from diffusers import LatteTransformer3DModel

    return LatteTransformer3DModel(
        num_attention_heads=4, attention_head_dim=48, num_layers=3, in_channels=SPACE.channels,
        out_channels=SPACE.channels, attention_bias=True, sample_size=SPACE.height, patch_size=2,
        activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
        caption_channels=SPACE.text_dim, cross_attention_dim=192, video_length=SPACE.frames,
    )  # fmt: skip


def _unet() -> nn.Module:
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel(
        sample_size=SPACE.height, in_channels=SPACE.channels, out_channels=SPACE.channels,
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"), block_out_channels=(32, 64, 128),
        layers_per_block=1, norm_num_groups=8, cross_attention_dim=SPACE.text_dim, attention_head_dim=32,
    )  # fmt: skip


def _predict(network: nn.Module, x: Tensor, t: Tensor, text: Text) -> Tensor:
    return network(x, t, text)


def _predict_theirs(network: nn.Module, x: Tensor, t: Tensor, text: Text) -> Tensor:
    return network(x, (1000 * t).long(), text.tokens, return_dict=False)[0]


def _step(network: nn.Module, predict: Callable[..., Tensor]) -> Callable[[], None]:
    draws = torch.Generator().manual_seed(0)
    x, t = torch.randn(BATCH, *SPACE.shape, generator=draws), torch.rand(BATCH, generator=draws)
    tokens = torch.randn(BATCH, WORDS, SPACE.text_dim, generator=draws)
    text = Text(tokens, torch.ones(BATCH, WORDS, dtype=torch.bool))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (predict(network, x, t, text)[:, : SPACE.channels] - x).square().mean().backward()
        optimizer.step()

    return step


def _processor_s(step: Callable[[], None]) -> float:
    """Of one thread, so that neighbors on the machine count little."""
    began = time.process_time()
    step()
    return time.process_time() - began


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("networks", networks())
