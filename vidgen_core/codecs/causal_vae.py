"""A strictly causal video autoencoder of our own.

The layout follows the causal video autoencoders of the field (Yu et al. 2023, "MAGVIT-v2", arXiv:2310.05737): the first
frame is coded alone, so that an image is a video of one frame and shares its latent. The objective is the evidence
lower bound of Kingma and Welling 2013 (arXiv:1312.6114) with a small weight on the divergence.

Beside the convolutions runs a linear map from each block of pixels to its latent and back, as in the residual
autoencoding of Chen et al. 2024, "DC-AE" (arXiv:2410.10733, section 3.2). It begins as a truncated cosine transform and
the convolutions begin at zero, so that an untrained codec already reconstructs as well as a transform coder, and
training only improves on that.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.chance import Chance
from vidgen_core.codecs._strides import strided_shape
from vidgen_core.interfaces import Batch, Codec, Frozen, Learner, Player, Work
from vidgen_core.layers.causal import (
    Chain,
    Past,
    ResidualBlock,
    SpaceConv,
    SpaceUpsample,
    TimeConv,
    TimeUpsample,
    sequence_flops,
)
from vidgen_core.layers.cosines import cosine_basis
from vidgen_core.layers.flops import product
from vidgen_core.layers.patches import patchify, unpatchify
from vidgen_core.layers.tiles import in_tiles
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.objectives.flow_matching import per_sample_mean
from vidgen_core.shapes import Latents, Video

__all__ = ["CausalVAE", "Config"]

_LOG_VARIANCE_RANGE = (-12.0, 4.0)
_FIRST_LOG_VARIANCE = -4.0


class Config(Frozen):
    """Sizes of the autoencoder.

    Args:
        channels: Latent channels.
        widths: Channels of each level.
        space_levels, time_levels: After how many of the first levels space and time are halved.
        patch_px: Pixels folded into channels before the first level.
        blocks: Residual blocks a level.
        divergence_weight: Weight of the Kullback-Leibler divergence to N(0, I), per latent element.

    """

    channels: int = 8
    widths: tuple[int, ...] = (32, 32)
    space_levels: int = 0
    time_levels: int = 1
    patch_px: int = 4
    blocks: int = 1
    divergence_weight: float = 1e-3

    @classmethod
    def tiny(cls) -> "Config":
        """4 x 4 x 2 compression to 8 channels; learns the sample videos in a minute."""
        return cls()

    @classmethod
    def base(cls) -> "Config":
        """8 x 8 x 4 compression to 16 channels."""
        return cls(channels=16, widths=(64, 128, 256), space_levels=2, time_levels=2, patch_px=2, blocks=2)

    def build(self) -> "CausalVAE":
        """The untrained autoencoder."""
        return CausalVAE(self)


class CausalVAE(Codec, Learner):
    """Video [B, 3, T, H, W] in [-1, 1] to latents [B, C, T', H', W'] and back."""

    trainable = True
    reads_text = False
    any_shape = True
    causal = True
    # Latent frames and latent places a side that are worked on at once; the results do not depend on them.
    chunk_latents = 8
    tile_latents = 64
    config: Config
    shift: Tensor
    scale: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.channels = config.channels
        self.time_stride = 2**config.time_levels
        self.space_stride = config.patch_px * 2**config.space_levels
        values = 3 * config.patch_px**2
        self.encoder = Chain(*_encoder_layers(config, values))
        self.decoder = Chain(*_decoder_layers(config, values))
        self.block = (self.time_stride, self.space_stride, self.space_stride)
        block_values = 3 * math.prod(self.block)
        self.linear_encoder = nn.Linear(block_values, config.channels)
        self.linear_decoder = nn.Linear(config.channels, block_values)
        self._begin_as_cosine_transform()
        # Statistics of the raw latents, measured once after training: z = (raw - shift) * scale.
        self.register_buffer("shift", torch.zeros(config.channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(config.channels, 1, 1, 1))

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(channels, frames, height, width) of a clip's latents."""
        return strided_shape(self, frames, height, width)

    def encode(self, video: Video) -> Latents:
        """The mean of the posterior, normalized by the stored statistics; video of any length and size.

        The first frame is coded by itself, so that its latent is that of the image bit for bit.
        """
        whole = in_tiles(
            self._encode_raw, video, cell_in=self.space_stride, cell_out=1, tile=self.tile_latents, halo=self._halo
        )
        return (whole - self.shift) * self.scale

    def decode(self, latents: Latents) -> Video:
        """Video clamped to [-1, 1]; latents of any length and size."""
        raw = latents / self.scale + self.shift
        return in_tiles(
            self._decode_chunks, raw, cell_in=1, cell_out=self.space_stride, tile=self.tile_latents, halo=self._halo
        ).clamp(-1, 1)

    def measure(self, latents: Latents) -> None:
        """Set the statistics so that `latents`, coded with the statistics of now, get mean 0 and variance 1."""
        mean = latents.mean((0, 2, 3, 4)).view_as(self.shift)
        std = latents.std((0, 2, 3, 4)).view_as(self.scale).clamp_min(1e-4)
        self.shift += mean / self.scale
        self.scale /= std

    def players(self) -> Mapping[str, Player]:
        """Encoder and decoder together."""
        return {"codec": Player(dict(self.named_parameters()))}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Absolute plus squared reconstruction error plus the weighted divergence."""
        mean, log_variance = self._posterior(batch.video)
        noise = chance.normal("posterior", batch.index, mean.shape[1:])
        video = self._decode_raw(mean + (0.5 * log_variance).exp() * noise)
        reconstruction = F.l1_loss(video, batch.video) + F.mse_loss(video, batch.video)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        yield "codec", reconstruction + self.config.divergence_weight * divergence

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Peak signal-to-noise ratio in dB of the clamped reconstruction, and the mean squared error."""
        error = per_sample_mean((self.decode(self.encode(batch.video)) - batch.video) ** 2)
        return {"loss": error, "psnr_db": 10 * torch.log10(4.0 / error.clamp_min(1e-10))}

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """One pass through encoder and decoder and its gradient; text is not read."""
        del text_tokens
        _, frames, height, width = shape
        latent = self.latent_shape(frames, height, width)[1:]
        fold = self.config.patch_px
        folded = (frames, height // fold, width // fold)
        first = sequence_flops(self.encoder[:1], folded)
        # What the first layer reads is data.
        encoder = sequence_flops(self.encoder, folded) + first * -1 + first.on_data
        decoder = sequence_flops(self.decoder, latent)
        blocks = math.prod(latent)
        linear = product(self.linear_encoder, blocks).on_data + product(self.linear_decoder, blocks)
        return Work((encoder + decoder + linear).step, math.prod(shape[1:]) // fold**2)

    @property
    def _halo(self) -> int:
        """Latent places around one on which it depends, in space: of encoder and decoder the larger number."""
        config = self.config
        # In the pixels of one latent place: each 3 x 3 convolution reaches one place of its own resolution.
        reach_px, at_px = config.patch_px, config.patch_px
        for level in range(len(config.widths)):
            reach_px += config.blocks * at_px
            if level + 1 < len(config.widths):
                at_px *= 2 if level < config.space_levels else 1
                reach_px += at_px
        return -(-(reach_px + at_px) // self.space_stride)

    def _encode_raw(self, video: Video) -> Latents:
        """The posterior's mean, in chunks of frames."""
        past: Past = {}
        frames = self.chunk_latents * self.time_stride
        chunks = [video[:, :, :1], *video[:, :, 1:].split(frames, dim=2)] if video.shape[2] > 1 else [video]
        return torch.cat([self._posterior(chunk, past)[0] for chunk in chunks], dim=2)

    def _decode_chunks(self, raw: Latents) -> Video:
        """Video, in chunks of latent frames."""
        past: Past = {}
        return torch.cat([self._decode_raw(chunk, past) for chunk in raw.split(self.chunk_latents, dim=2)], dim=2)

    def _posterior(self, video: Video, past: Past | None = None) -> tuple[Latents, Latents]:
        later = bool(past)
        folded = patchify(video, (1, self.config.patch_px, self.config.patch_px))
        mean, log_variance = self.encoder(folded, past).chunk(2, dim=-1)
        if not later:
            # The first frame stands for the frames of its block that are before the video.
            before = video[:, :, :1].expand(-1, -1, self.time_stride - 1, -1, -1)
            video = torch.cat([before, video], dim=2)
        mean = mean + self.linear_encoder(patchify(video, self.block))
        log_variance = (log_variance + _FIRST_LOG_VARIANCE).clamp(*_LOG_VARIANCE_RANGE)
        return mean.permute(0, 4, 1, 2, 3), log_variance.permute(0, 4, 1, 2, 3)

    def _decode_raw(self, raw: Latents, past: Past | None = None) -> Video:
        first = 0 if past else self.time_stride - 1
        last = raw.permute(0, 2, 3, 4, 1).contiguous()
        video = unpatchify(self.decoder(last, past), (1, self.config.patch_px, self.config.patch_px))
        return video + unpatchify(self.linear_decoder(last), self.block)[:, :, first:]

    @torch.no_grad()
    def _begin_as_cosine_transform(self) -> None:
        basis = cosine_basis(self.config.channels, *self.block)
        self.linear_encoder.weight.copy_(basis)
        self.linear_decoder.weight.copy_(basis.T)
        self.linear_encoder.bias.zero_()
        self.linear_decoder.bias.zero_()


def _encoder_layers(config: Config, values: int) -> list[nn.Module]:
    widths = config.widths
    layers: list[nn.Module] = [SpaceConv(values, widths[0])]
    for level, width in enumerate(widths):
        layers += [ResidualBlock(width) for _ in range(config.blocks)]
        if level + 1 < len(widths):
            layers.append(SpaceConv(width, widths[level + 1], stride=2 if level < config.space_levels else 1))
            if level < config.time_levels:
                layers.append(TimeConv(widths[level + 1], widths[level + 1], stride=2))
    return [*layers, zeroed(SpaceConv(widths[-1], 2 * config.channels))]


def _decoder_layers(config: Config, values: int) -> list[nn.Module]:
    widths = config.widths
    layers: list[nn.Module] = [SpaceConv(config.channels, widths[-1])]
    for level in reversed(range(len(widths))):
        layers += [ResidualBlock(widths[level]) for _ in range(config.blocks)]
        if level > 0:
            if level - 1 < config.time_levels:
                layers.append(TimeUpsample(widths[level]))
            if level - 1 < config.space_levels:
                layers.append(SpaceUpsample())
            layers.append(SpaceConv(widths[level], widths[level - 1]))
    return [*layers, zeroed(SpaceConv(widths[0], values))]
