"""A flow of causal transformers: each block moves and scales every patch by what the patches before it say.

Zhai et al. 2024, "Normalizing Flows are Capable Generative Models" (arXiv:2412.06329); start token, soft limit of the
scales and guidance as in Gu et al. 2025, "STARFlow" (arXiv:2506.06276).
"""

import math
from collections.abc import Iterable
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.interfaces import Space, Text
from vidgen_core.layers.attention import Past
from vidgen_core.layers.embeddings import space_time_positions
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.patches import Patched, patchify, unpatchify
from vidgen_core.layers.transformer import TransformerBlock
from vidgen_core.layers.words import Words
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.shapes import Latents, PerSample

__all__ = ["Config", "TarFlow"]

_LARGEST_LOG_SCALE = 4.0

Tokens = Float[Tensor, "batch tokens values"]


class Config(Patched):
    """Sizes of the flow.

    Args:
        kind: Names this network among those of the family.
        dim: Width of a token.
        blocks: Number of flow blocks; every other one goes through the patches from the last to the first.
        depth: Transformer layers a block.
        heads: Attention heads.
        patch_frames, patch_px: See `Patched`.

    """

    kind: Literal["tarflow"] = "tarflow"
    dim: int = 128
    blocks: int = 4
    depth: int = 2
    heads: int = 4

    def build(self, space: Space) -> "TarFlow":
        """The network for samples and text of one space."""
        return TarFlow(self, space)


class FlowBlock(nn.Module):
    """One autoregressive affine map of tokens and its inverse; the identity before training."""

    positions: Tensor

    def __init__(self, config: Config, positions: Tensor, values: int, *, context: bool) -> None:
        super().__init__()
        self.register_buffer("positions", positions, persistent=False)
        self.start = nn.Parameter(torch.zeros(config.dim))
        self.embed = nn.Linear(values, config.dim)
        self.layers = nn.ModuleList(
            TransformerBlock(config.dim, config.heads, context=context, causal=True) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.to_out = zeroed(nn.Linear(config.dim, 2 * values))

    def forward(self, x: Tokens, context: tuple[Tensor, Tensor] | None) -> tuple[Tokens, PerSample]:
        """(x - mean) / scale, and the log of the map's volume factor."""
        mean, log_scale = self.given(x, context)
        return (x - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def given(self, x: Tokens, context: tuple[Tensor, Tensor] | None) -> tuple[Tokens, Tokens]:
        """Mean and log scale of each token given those before it."""
        before = torch.cat([self.start.expand(len(x), 1, -1), self.embed(x[:, :-1])], dim=1)
        return self._read(before + self.positions, context, None)

    def inverse(self, z: Tokens, context: tuple[Tensor, Tensor] | None, guidance: float) -> Tokens:
        """x, one token after the other; with a guidance the batch of the context is prompts, then empty ones."""
        pasts, made = [Past() for _ in self.layers], []
        twice = 1 if guidance == 1.0 else 2
        entry = self.start.expand(len(z) * twice, 1, -1)
        for place in range(z.shape[1]):
            mean, log_scale = self._read(entry + self.positions[place], context, pasts)
            if twice == 2:
                mean, log_scale = _guided(mean, log_scale, guidance)
            made.append(z[:, place : place + 1] * log_scale.exp() + mean)
            entry = self.embed(made[-1]).repeat(twice, 1, 1)
        return torch.cat(made, dim=1)

    def inverse_by_iteration(
        self, z: Tokens, context: tuple[Tensor, Tensor] | None, guidance: float, *, tolerance: float
    ) -> Tokens:
        """The same x by Jacobi's iteration: all tokens at once, again and again; exact after as many as there are."""
        x = z
        for _ in range(z.shape[1]):
            if guidance == 1.0:
                mean, log_scale = self.given(x, context)
            else:
                mean, log_scale = _guided(*self.given(x.repeat(2, 1, 1), context), guidance)
            following = z * log_scale.exp() + mean
            moved = (following - x).abs().amax() / following.abs().amax().clamp_min(1e-6)
            x = following
            if moved < tolerance:
                break
        return x

    def drawn(self, z: Tokens, context: tuple[Tensor, Tensor] | None, iterations: int) -> Tokens:
        """Tokens x with a gradient. They are found without one, token by token, and solve x = mean(x) + scale(x) z.

        By the implicit function theorem a gradient g at x becomes u = g + (d(mean + scale z)/dx)' u, which Jacobi's
        iteration solves (Bai et al. 2019, "Deep Equilibrium Models", arXiv:1909.01377, theorem 1): exactly after as
        many iterations as there are tokens, nearly after a few. Nothing is kept of the way that led to x.
        """
        with torch.no_grad():
            found = self.inverse(z, context, 1.0)
        found.requires_grad_()
        mean, log_scale = self.given(found, context)
        x = z * log_scale.exp() + mean

        def solved(gradient: Tensor) -> Tensor:
            total = gradient
            for _ in range(iterations):
                total = gradient + torch.autograd.grad(x, found, total, retain_graph=True)[0]
            return total

        result = x.view_as(x)
        if result.requires_grad:
            result.register_hook(solved)
        return result

    def drawn_flops(self, tokens: int, entries: int, iterations: int) -> float:
        """Of `drawn` and of its gradient."""
        layers = cast("Iterable[TransformerBlock]", self.layers)
        one_pass, first = self.flops(tokens, entries), product(self.embed, tokens - 1)
        reading = attention = 0.0
        for layer in layers:
            # A token attends to those before it alone.
            attention += 2.0 * layer.attention.to_out.in_features * tokens * (tokens - 1)
            if layer.context_attention is not None and entries:
                reading += product(layer.context_attention.to_key_value, entries + 1).products
        inverse = one_pass.forward - attention + product(self.embed, 1).forward
        around = one_pass.products - reading + 2.5 * one_pass.attention
        return inverse + (one_pass + first * -1 + first.on_data).step + iterations * around

    def flops(self, tokens: int, entries: int) -> Flops:
        """Of so many tokens that read so many text tokens."""
        total = product(self.embed, tokens - 1) + product(self.to_out, tokens)
        for layer in cast("Iterable[TransformerBlock]", self.layers):
            total += layer.flops(tokens, entries)
        return total

    def _read(
        self, entries: Tensor, context: tuple[Tensor, Tensor] | None, pasts: list[Past] | None
    ) -> tuple[Tokens, Tokens]:
        for number, layer in enumerate(self.layers):
            entries = layer(entries, context, past=None if pasts is None else pasts[number])
        # In half precision what is said is rounded here, and neither tokens nor their volume from here on.
        mean, log_scale = self.to_out(self.norm(entries)).to(self.start.dtype).chunk(2, dim=-1)
        return mean, _LARGEST_LOG_SCALE * torch.tanh(log_scale / _LARGEST_LOG_SCALE)


class TarFlow(nn.Module):
    """Video [B, C, T, H, W] to noise of the same shape and back."""

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid(space)
        values = space.channels * math.prod(config.patch)
        positions = space_time_positions(*self.grid, config.dim).flatten(0, 2)
        self.words = Words(space.text_dim, config.dim) if space.text_dim else None
        self.blocks = nn.ModuleList(
            FlowBlock(config, positions.flip(0) if number % 2 else positions, values, context=space.text_dim > 0)
            for number in range(config.blocks)
        )

    def forward(self, video: Latents, text: Text | None) -> tuple[Latents, PerSample]:
        """Noise, and the log determinant of the Jacobian."""
        context = self._context(text)
        tokens = patchify(video, self.config.patch).flatten(1, 3)
        log_volume = tokens.new_zeros(len(video))
        for number, block in enumerate(self.blocks):
            tokens, added = block(_ordered(tokens, number), context)
            tokens, log_volume = _ordered(tokens, number), log_volume + added
        return self._video(tokens), log_volume

    def inverse(
        self, noise: Latents, text: Text | None, *, guidance: float = 1.0, tolerance: float | None = None
    ) -> Latents:
        """Video of noise.

        Args:
            noise: [B, C, T, H, W].
            text: Prompts.
            guidance: Scale; needs text. Gu et al. 2025, section 3.3.
            tolerance: Relative change at which Jacobi's iteration stops; None goes token by token.

        """
        if text is None:
            guidance = 1.0
        elif guidance != 1.0:
            text = text.beside(text.empty())
        context = self._context(text)
        tokens = patchify(noise, self.config.patch).flatten(1, 3)
        for number in reversed(range(len(self.blocks))):
            block = cast(FlowBlock, self.blocks[number])
            tokens = _ordered(tokens, number)
            if tolerance is None:
                tokens = block.inverse(tokens, context, guidance)
            else:
                tokens = block.inverse_by_iteration(tokens, context, guidance, tolerance=tolerance)
            tokens = _ordered(tokens, number)
        return self._video(tokens)

    def drawn(self, noise: Latents, text: Text | None, *, iterations: int) -> Latents:
        """The same with a gradient, which so many iterations a block find; see `FlowBlock.drawn`."""
        context = self._context(text)
        tokens = patchify(noise, self.config.patch).flatten(1, 3)
        for number in reversed(range(len(self.blocks))):
            block = cast(FlowBlock, self.blocks[number])
            tokens = _ordered(block.drawn(_ordered(tokens, number), context, iterations), number)
        return self._video(tokens)

    def drawn_flops(self, shape: tuple[int, int, int, int], text_tokens: int, *, iterations: int) -> float:
        """Of `drawn` and of its gradient, for one sample."""
        total = 0.0 if self.words is None else self.words.flops(text_tokens).step
        blocks = cast("Iterable[FlowBlock]", self.blocks)
        return total + sum(block.drawn_flops(self.tokens(shape), text_tokens, iterations) for block in blocks)

    def flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of one sample (channels, frames, height, width) with so many text tokens."""
        total = Flops() if self.words is None else self.words.flops(text_tokens)
        for number, block in enumerate(cast("Iterable[FlowBlock]", self.blocks)):
            total += block.flops(self.tokens(shape), text_tokens)
            if number == 0:
                # Its patches are data.
                first = product(block.embed, self.tokens(shape) - 1)
                total += first * -1 + first.on_data
        return total

    def tokens(self, shape: tuple[int, int, int, int]) -> int:
        """Tokens of one sample (channels, frames, height, width)."""
        return self.config.places(shape)

    def _context(self, text: Text | None) -> tuple[Tensor, Tensor] | None:
        return None if self.words is None or text is None else self.words(text)

    def _video(self, tokens: Tokens) -> Latents:
        return unpatchify(tokens.unflatten(1, self.grid), self.config.patch)


def _ordered(tokens: Tokens, number: int) -> Tokens:
    """The order in which block `number` goes through the tokens; applied twice it is undone."""
    return tokens.flip(1) if number % 2 else tokens


def _guided(mean: Tokens, log_scale: Tokens, guidance: float) -> tuple[Tokens, Tokens]:
    """Mean and log scale of N_prompt^guidance N_empty^(1 - guidance), up to its norm; the batch is prompts, then empty.

    Where the empty prompt is the surer one, its variance counts as the prompt's, so that the product stays a density.
    """
    (mean, mean_empty), (log_scale, log_scale_empty) = mean.chunk(2), log_scale.chunk(2)
    share = (2 * (log_scale - log_scale_empty)).clamp_max(0).exp()
    sum_of_weights = guidance - (guidance - 1) * share
    center = (guidance * mean - (guidance - 1) * share * mean_empty) / sum_of_weights
    return center, log_scale - 0.5 * sum_of_weights.log()
