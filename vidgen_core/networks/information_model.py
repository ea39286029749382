"""A transformer autoencoder whose decoder draws a video from its text and from what the text does not say.

The encoder, the "information model", reads video and text with a few learned queries; their outputs are a diagonal
Gaussian over M latent vectors. The decoder reads latents and text at each place of the video.
"""

import math
from collections.abc import Iterable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.interfaces import Space, Text
from vidgen_core.layers.embeddings import space_time_positions
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.patches import Patched, patchify, unpatchify
from vidgen_core.layers.transformer import TransformerBlock
from vidgen_core.layers.words import Words
from vidgen_core.shapes import Latents

__all__ = ["Config", "InformationModel"]

_LOG_VARIANCE_RANGE = (-30.0, 20.0)
_FIRST_LOG_VARIANCE = -4.0


class Config(Patched):
    """Sizes of encoder and decoder.

    Args:
        dim: Width of a token.
        encoder_depth, decoder_depth: Blocks of each.
        heads: Attention heads.
        patch_frames, patch_px: See `Patched`.
        codes: Number M of latent vectors.
        code_dim: Width of each.

    """

    dim: int = 128
    encoder_depth: int = 4
    decoder_depth: int = 4
    heads: int = 4
    codes: int = 8
    code_dim: int = 16

    def build(self, space: Space) -> "InformationModel":
        """The networks for samples and text of one space."""
        return InformationModel(self, space)


class InformationModel(nn.Module):
    """Encoder, decoder and the prior that the text gives."""

    positions: Tensor

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid(space)
        values = space.channels * math.prod(config.patch)
        dim, heads, reads = config.dim, config.heads, space.text_dim > 0
        self.register_buffer("positions", space_time_positions(*self.grid, dim).flatten(0, 2), persistent=False)
        self.words = Words(space.text_dim, dim) if reads else None
        self.embed = nn.Linear(values, dim)
        self.queries = nn.Parameter(torch.randn(config.codes, dim) * 0.5)
        self.encoder = nn.ModuleList(TransformerBlock(dim, heads, context=reads) for _ in range(config.encoder_depth))
        posterior = nn.Linear(dim, 2 * config.code_dim)
        with torch.no_grad():
            # Codes begin nearly without noise: a decoder that first meets noise learns not to listen.
            posterior.bias[config.code_dim :] += _FIRST_LOG_VARIANCE
        self.to_posterior = nn.Sequential(nn.LayerNorm(dim), posterior)
        self.from_codes = nn.Linear(config.code_dim, dim)
        self.code_places = nn.Parameter(torch.randn(config.codes, dim) * 0.5)
        self.decoder = nn.ModuleList(TransformerBlock(dim, heads, context=reads) for _ in range(config.decoder_depth))
        self.to_out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, values))

    def encode(
        self, video: Latents, text: Text | None
    ) -> tuple[Float[Tensor, "batch codes code_dim"], Float[Tensor, "batch codes code_dim"]]:
        """Mean and log variance of what the text leaves open."""
        tokens = self.embed(patchify(video, self.config.patch).flatten(1, 3)) + self.positions
        tokens = torch.cat([self.queries.expand(len(video), -1, -1), tokens], dim=1)
        context = self._context(text)
        for block in self.encoder:
            tokens = block(tokens, context)
        mean, log_variance = self.to_posterior(tokens[:, : self.config.codes]).chunk(2, dim=-1)
        return mean, log_variance.clamp(*_LOG_VARIANCE_RANGE)

    def decode(self, codes: Float[Tensor, "batch codes code_dim"], text: Text | None) -> Latents:
        """The mean video for codes and text."""
        entries = self.from_codes(codes) + self.code_places
        tokens = torch.cat([entries, self.positions.expand(len(codes), -1, -1)], dim=1)
        context = self._context(text)
        for block in self.decoder:
            tokens = block(tokens, context)
        values = self.to_out(tokens[:, self.config.codes :])
        return unpatchify(values.unflatten(1, self.grid), self.config.patch)

    def flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of encoding and decoding one sample (channels, frames, height, width) with so many text tokens."""
        read = Flops() if self.words is None else self.words.flops(text_tokens) * 2
        return self.encoder_flops(shape, text_tokens) + self.decoder_flops(shape, text_tokens) + read

    def encoder_flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of encoding alone, once the text is read."""
        places, codes = self.tokens(shape), self.config.codes
        total = product(self.embed, places).on_data + product(self.to_posterior[1], codes)
        for block in cast("Iterable[TransformerBlock]", self.encoder):
            total += block.flops(codes + places, text_tokens)
        return total

    def decoder_flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> Flops:
        """Of decoding alone, once the text is read."""
        places, codes = self.tokens(shape), self.config.codes
        total = product(self.from_codes, codes) + product(self.to_out[1], places)
        for block in cast("Iterable[TransformerBlock]", self.decoder):
            total += block.flops(codes + places, text_tokens)
        return total

    def reading_flops(self, text_tokens: int) -> Flops:
        """Of the decoder's keys and values of a text: no gradient of a code passes there."""
        total = Flops()
        for block in cast("Iterable[TransformerBlock]", self.decoder):
            if block.context_attention is not None and text_tokens:
                total += product(block.context_attention.to_key_value, text_tokens + 1)
        return total

    def halves(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """Weights of the encoder and of the decoder by name; how words are read, which both do, is the decoder's."""
        encoder: dict[str, nn.Parameter] = {}
        decoder: dict[str, nn.Parameter] = {}
        for name, value in self.named_parameters():
            part = name.partition(".")[0]
            (encoder if part in ("embed", "queries", "encoder", "to_posterior") else decoder)[name] = value
        return encoder, decoder

    def tokens(self, shape: tuple[int, int, int, int]) -> int:
        """Patches of one sample (channels, frames, height, width)."""
        return self.config.places(shape)

    def _context(self, text: Text | None) -> tuple[Tensor, Tensor] | None:
        return None if self.words is None or text is None else self.words(text)
