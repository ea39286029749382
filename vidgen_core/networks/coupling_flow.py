"""A flow of coupling layers on space-time patches. Kingma and Dhariwal 2018, "Glow" (arXiv:1807.03039), one scale."""

import math
from collections.abc import Iterable
from typing import Literal, cast

from torch import Tensor, nn

from vidgen_core.interfaces import Space, Text
from vidgen_core.layers.couplings import AffineCoupling, ChannelMix, ChannelScale
from vidgen_core.layers.flops import Flops
from vidgen_core.layers.patches import Patched, patchify, unpatchify
from vidgen_core.shapes import Latents, PerSample

__all__ = ["Config", "CouplingFlow"]


class Config(Patched):
    """Sizes of the flow.

    Args:
        kind: Names this network among those of the family.
        steps: Steps of scaling, mixing and coupling.
        hidden: Channels inside a coupling.
        patch_frames, patch_px: See `Patched`.

    """

    kind: Literal["coupling"] = "coupling"
    steps: int = 8
    hidden: int = 96

    def build(self, space: Space) -> "CouplingFlow":
        """The network for samples and text of one space."""
        return CouplingFlow(self, space)


class FlowStep(nn.Module):
    """Scale, mix and couple channels."""

    def __init__(self, channels: int, hidden: int, condition: int) -> None:
        super().__init__()
        self.scale = ChannelScale(channels)
        self.mix = ChannelMix(channels)
        self.coupling = AffineCoupling(channels, hidden, condition)

    def forward(self, x: Latents, condition: Tensor | None) -> tuple[Latents, PerSample]:
        """The step, and its log determinant."""
        x, scaled = self.scale(x)
        x, mixed = self.mix(x)
        x, coupled = self.coupling(x, condition)
        return x, scaled + mixed + coupled

    def inverse(self, z: Latents, condition: Tensor | None) -> Latents:
        """The x of a z."""
        return self.scale.inverse(self.mix.inverse(self.coupling.inverse(z, condition)))


class CouplingFlow(nn.Module):
    """Video [B, C, T, H, W] to noise of the same shape and back, both in one pass."""

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config = config
        config.grid(space)
        channels = space.channels * math.prod(config.patch)
        self.steps = nn.ModuleList(FlowStep(channels, config.hidden, space.text_dim) for _ in range(config.steps))

    def forward(self, video: Latents, text: Text | None) -> tuple[Latents, PerSample]:
        """Noise, and the log determinant of the Jacobian."""
        x, said = self._folded(video), _said(text)
        log_volume = x.new_zeros(len(x))
        for step in self.steps:
            x, added = step(x, said)
            log_volume = log_volume + added
        return self._unfolded(x), log_volume

    def inverse(self, noise: Latents, text: Text | None) -> Latents:
        """Video of noise."""
        x, said = self._folded(noise), _said(text)
        for number in reversed(range(len(self.steps))):
            x = cast(FlowStep, self.steps[number]).inverse(x, said)
        return self._unfolded(x)

    def drawn(self, noise: Latents, text: Text | None, *, iterations: int) -> Latents:
        """The same: couplings are inverted in one pass, through which gradients go as they are."""
        del iterations
        return self.inverse(noise, text)

    def drawn_flops(self, shape: tuple[int, int, int, int], text_tokens: int, *, iterations: int) -> float:
        """Of `drawn` and of its gradient, for one sample: the inverse's products are those of the flow."""
        del iterations
        return self.flops(shape, text_tokens).step

    def flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of one sample (channels, frames, height, width); a prompt is one vector, however long."""
        total, places = Flops(), self.tokens(shape)
        for step in cast("Iterable[FlowStep]", self.steps):
            # Data are shifted and scaled by what learns before they are mixed, which so has a gradient to pass on.
            total += step.mix.flops(places) + step.coupling.flops(places, said=text_tokens > 0)
        return total

    def tokens(self, shape: tuple[int, int, int, int]) -> int:
        """Places of one sample, once patches are folded."""
        return self.config.places(shape)

    def _folded(self, video: Latents) -> Latents:
        return patchify(video, self.config.patch).permute(0, 4, 1, 2, 3)

    def _unfolded(self, x: Latents) -> Latents:
        return unpatchify(x.permute(0, 2, 3, 4, 1), self.config.patch)


def _said(text: Text | None) -> Tensor | None:
    """The sum of a prompt's words, [B, text_dim]."""
    return None if text is None else (text.tokens * text.mask[..., None]).sum(1)
