"""A transformer for video and text with streams of their own: MMDiT, over frames of several resolutions at once.

Esser et al. 2024, "Stable Diffusion 3" (arXiv:2403.03206), section 4: blocks in which text and video have weights of
their own and attend to each other; after them, as in FLUX.1, blocks whose weights both share. Here text reads itself
alone and time 0, so that what the video reads of it, like what it reads of finished frames, is computed once and kept.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen_core.interfaces import Space, Text
from vidgen_core.layers.attention import KeyValue
from vidgen_core.layers.embeddings import TimeEmbedding, positions_at
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.patches import Patched, patchify, unpatchify
from vidgen_core.layers.rotary import Turns, turns_at
from vidgen_core.layers.scalars import ScalarEmbedding
from vidgen_core.layers.stem import ConvHead, ConvStem
from vidgen_core.layers.words import Words
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.networks._mmdit_blocks import Block, Heard, ParallelBlock, spread
from vidgen_core.shapes import Latents

__all__ = ["Config", "Frames", "Kept", "MMDiT"]


class Config(Patched):
    """Sizes of the transformer.

    Args:
        kind: Names this network among those of a family.
        dim: Width of a token.
        double_depth: Number of blocks in which text and video have weights of their own.
        single_depth: Number of blocks behind them, whose weights both share.
        heads: Attention heads; the width of one is a multiple of four.
        patch_frames, patch_px: See `Patched`; a patch is of one frame.
        mlp_ratio: Width of the perceptrons over `dim`.
        stem_channels: Channels of the convolutions around the transformer; 0 has none, as in the papers.

    """

    kind: Literal["mmdit"] = "mmdit"
    patch_frames: Literal[1] = 1
    dim: int = 160
    double_depth: int = 2
    single_depth: int = 4
    heads: int = 5
    mlp_ratio: float = 4.0
    stem_channels: int = 0

    def build(self, space: Space) -> "MMDiT":
        """The network for samples and text of one space."""
        return MMDiT(self, space)


@dataclass(frozen=True)
class Frames:
    """Frames of one resolution.

    Attributes:
        video: Their values [B, C, n, h, w].
        numbers: Which frames of their clip they are, float [B, n]; in any order, also several times.
        times: Their noise times in [0, 1], [B, n].
        scale: How often a pixel's side is that of the clip's finest resolution.
        wanted: Of how many, the last ones, a prediction is wanted.

    """

    video: Latents
    numbers: Float[Tensor, "batch frames"]
    times: Float[Tensor, "batch frames"]
    scale: int
    wanted: int


@dataclass(frozen=True)
class Kept:
    """Keys and values of some tokens in every block, and which of the tokens are there: [B, tokens], None for all."""

    blocks: tuple[KeyValue, ...]
    there: Bool[Tensor, "batch tokens"] | None = None

    @staticmethod
    def joined(parts: Sequence["Kept"]) -> "Kept":
        """The tokens of all parts, one after the other."""
        blocks = tuple(
            (torch.cat([key for key, _ in pairs], dim=2), torch.cat([value for _, value in pairs], dim=2))
            for pairs in zip(*(part.blocks for part in parts), strict=True)
        )
        if all(part.there is None for part in parts):
            return Kept(blocks)
        return Kept(blocks, torch.cat([part.all_there() for part in parts], dim=1))

    def rows(self, count: int) -> "Kept":
        """Of the first rows of the batch."""
        there = None if self.there is None else self.there[:count]
        return Kept(tuple((key[:count], value[:count]) for key, value in self.blocks), there)

    def all_there(self) -> Bool[Tensor, "batch tokens"]:
        """`there`, written out."""
        if self.there is not None:
            return self.there
        key = self.blocks[0][0]
        return torch.ones(key.shape[0], key.shape[2], dtype=torch.bool, device=key.device)


class MMDiT(nn.Module):
    """Frames of any resolutions, and what was said of them, to a prediction for each."""

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        config.grid(space)
        self.config = config
        dim, heads, ratio = config.dim, config.heads, config.mlp_ratio
        channels = config.stem_channels or space.channels
        values = channels * math.prod(config.patch)
        self.embed = nn.Linear(values, dim)
        self.time = TimeEmbedding(dim)
        self.words = Words(space.text_dim, dim) if space.text_dim else None
        self.text_pooled = (
            nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim)) if space.text_dim else None
        )
        self.scalars = ScalarEmbedding(space.scalars, dim) if space.scalars else None
        # Nobody reads what the last block would make of the text, only its keys and values there.
        heard = config.double_depth - (config.single_depth == 0) if space.text_dim else 0
        self.text_blocks = nn.ModuleList(Block(dim, heads, ratio) for _ in range(heard))
        if space.text_dim and config.single_depth == 0:
            self.text_blocks.append(Heard(dim, heads))
        self.video_blocks = nn.ModuleList(Block(dim, heads, ratio) for _ in range(config.double_depth))
        self.single_blocks = nn.ModuleList(ParallelBlock(dim, heads, ratio) for _ in range(config.single_depth))
        self.norm_out = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation_out = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(dim, 2 * dim)))
        self.stem = ConvStem(space.channels, channels, dim) if config.stem_channels else None
        self.head = ConvHead(channels, space.channels, dim) if config.stem_channels else None
        self.to_out = nn.Linear(dim, values)
        if self.head is None:
            zeroed(self.to_out)

    def hear(
        self, text: Text | None, scalars: Mapping[str, Tensor], count: int
    ) -> tuple[Float[Tensor, "batch dim"], Kept | None]:
        """What is said of `count` samples: a condition of all their tokens, and the words, if there are.

        Scalars are as in `Batch`.
        """
        condition = self.embed.weight.new_zeros(count, self.config.dim)
        if self.scalars is not None:
            condition = condition + self.scalars(scalars, count)
        if self.words is None or self.text_pooled is None or text is None:
            return condition, None
        entries, there = self.words(text)
        # The sum over words, so that each word adds its direction whatever else is said.
        condition = condition + self.text_pooled((entries * there[..., None]).sum(1))
        own = torch.eye(there.shape[1], dtype=torch.bool, device=there.device)
        mask = (there[:, None] | own)[:, None]
        at_zero = (condition + self.time(condition.new_zeros(count)))[:, None]
        kept = []
        for block in self.text_blocks:
            entries, keys_values = block(entries, at_zero, mask=mask)
            kept.append(keys_values)
        for place, block in enumerate(self.single_blocks, start=1):
            entries, keys_values = block(entries, at_zero, mask=mask, reads=place < len(self.single_blocks))
            kept.append(keys_values)
        return condition, Kept(tuple(kept), there)

    def forward(
        self, groups: Sequence[Frames], said: Float[Tensor, "batch dim"], before: Kept | None = None, *,
        sees: Bool[Tensor, "batch all all"] | None = None, keep: bool = False,
    ) -> tuple[list[Latents], Kept | None]:  # fmt: skip
        """Predictions for the wanted frames of each group.

        Args:
            groups: All frames, by resolution.
            said: The condition that `hear` made of what is said of them.
            before: Words and finished frames, to which all attend.
            sees: Which frame (row) attends to which, over the frames of all groups; None is all to all.
            keep: Whether the keys and values of these frames are wanted too.

        """
        conditions = [self.time(group.times) + said[:, None] for group in groups]
        entered = [self._entered(group, condition) for group, condition in zip(groups, conditions, strict=True)]
        x = torch.cat([tokens.flatten(1, 3) for tokens, _ in entered], dim=1)
        runs = [(tokens.shape[1], tokens.shape[2] * tokens.shape[3]) for tokens, _ in entered]
        condition = torch.cat(conditions, dim=1)
        turns = self._turns(groups)
        mask = _mask(before, sees, runs)
        kept = []
        for place, block in enumerate((*self.video_blocks, *self.single_blocks)):
            earlier = None if before is None else before.blocks[place]
            x, own = block(x, condition, runs=runs, before=earlier, turns=turns, mask=mask)
            if keep:
                kept.append(own)
        made = []
        for group, (tokens, features), own_condition in zip(groups, entered, conditions, strict=True):
            count = tokens.shape[1] * tokens.shape[2] * tokens.shape[3]
            mine, x = x[:, :count].view_as(tokens), x[:, count:]
            made.append(self._left(group, mine, features, own_condition))
        return made, Kept(tuple(kept)) if keep else None

    def hidden_matrices(self) -> frozenset[str]:
        """Names of the weight matrices between hidden layers: neither at an end of the network nor read by a norm."""
        inside = re.compile(r"(_blocks\.\d+|stem\.block|head\.block|head\.join)\.")
        return frozenset(
            name
            for name, weight in self.named_parameters()
            if weight.ndim == 2 and inside.search(name) and ".modulation." not in name
        )

    def flops(self, groups: Sequence[tuple[int, int, int, int]], text_tokens: int) -> Flops:
        """Of one sample: (frames, height, width, wanted frames) of each group, with so many text tokens."""
        area = self.config.patch_px**2
        frames = sum(count for count, *_ in groups)
        tokens = sum(count * height * width // area for count, height, width, _ in groups)
        total = self.time.flops(frames)
        for count, height, width, wanted in groups:
            patches = height * width // area
            embed = product(self.embed, count * patches)
            total += product(self.modulation_out[1], wanted) + product(self.to_out, wanted * patches)
            if self.stem is None or self.head is None:
                total += embed.on_data
            else:
                total += embed + self.stem.flops((count, height, width)) + self.head.flops((wanted, height, width))
        if self.scalars is not None:
            total += self.scalars.flops()
        words = text_tokens if self.words is not None else 0
        if words:
            total += self._hearing(words)
        for block in (*self.video_blocks, *self.single_blocks):
            total += cast("Block | ParallelBlock", block).flops(tokens, conditions=frames, others=words)
        return total

    def tokens(self, groups: Sequence[tuple[int, int, int, int]]) -> int:
        """Tokens of one sample; groups are as for `flops`."""
        return sum(count * height * width for count, height, width, _ in groups) // self.config.patch_px**2

    def _hearing(self, words: int) -> Flops:
        """Of `hear` but for the scalars."""
        assert self.words is not None
        assert self.text_pooled is not None
        total = self.words.flops(words) + self.time.flops(1)
        total += product(self.text_pooled[0], 1) + product(self.text_pooled[2], 1)
        for place, block in enumerate((*self.text_blocks, *self.single_blocks), start=1):
            reads = place < len(self.text_blocks) + len(self.single_blocks)
            total += cast("Block | ParallelBlock | Heard", block).flops(words, conditions=1, others=0, reads=reads)
        return total

    def _places(self, group: Frames) -> tuple[Tensor, Tensor]:
        """Rows and columns of the middles of a group's patches, in patches of the finest resolution."""
        sizes = (side // self.config.patch_px for side in group.video.shape[3:])
        rows, columns = ((torch.arange(n, device=group.video.device) + 0.5) * group.scale - 0.5 for n in sizes)
        return rows, columns

    def _entered(self, group: Frames, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, n, h', w', dim], and the features of the stem if there is one."""
        positions = positions_at(group.numbers, *self._places(group), self.config.dim)
        if self.stem is None:
            return self.embed(patchify(group.video, self.config.patch)) + positions, None
        features = self.stem(group.video, condition)
        return self.embed(patchify(features.permute(0, 4, 1, 2, 3), self.config.patch)) + positions, features

    def _turns(self, groups: Sequence[Frames]) -> Turns:
        width = self.config.dim // self.config.heads
        angles = torch.cat([turns_at(group.numbers, *self._places(group), width) for group in groups], dim=1)[:, None]
        return angles.cos(), angles.sin()

    def _left(self, group: Frames, tokens: Tensor, features: Tensor | None, condition: Tensor) -> Latents:
        """The prediction for a group's wanted frames."""
        first = tokens.shape[1] - group.wanted
        condition = condition[:, first:]
        shift, scale = self.modulation_out(condition)[:, :, None, None].chunk(2, dim=-1)
        values = self.to_out(self.norm_out(tokens[:, first:]) * (1 + scale) + shift)
        drawn = unpatchify(values, self.config.patch)
        if self.head is None or features is None:
            return drawn
        return self.head(drawn.permute(0, 2, 3, 4, 1), features[:, first:], condition, group.video[:, :, first:])


def _mask(before: Kept | None, sees: Tensor | None, runs: Sequence[tuple[int, int]]) -> Tensor | None:
    """Who attends to whom, [B, 1, 1 or tokens, earlier and these tokens]; None where all do to all."""
    there = None if before is None else before.there
    count = sum(frames * patches for frames, patches in runs)
    if sees is None or sees.shape[1] == 1:
        if there is None:
            return None
        return torch.cat([there, there.new_ones(len(there), count)], dim=1)[:, None, None]
    across = spread(spread(sees, runs).transpose(1, 2), runs).transpose(1, 2)
    if before is None:
        return across[:, None]
    seen = before.all_there()[:, None].expand(-1, count, -1)
    return torch.cat([seen, across], dim=2)[:, None]
