"""Whether a caption fits a video, from a few short clips of it. Lei et al. 2021, "Less is More: ClipBERT" (2102.06183).

Frames of a clip become a grid of tokens (section 3.2), which a transformer reads after the caption's; its first token
says match or no match, and clips of one video are put together by what they say. Half of the pairs that it learns from
are wrong: a caption of another video, the likelier the more it resembles the right one. Captions come from a text
encoder in place of BERT's word embeddings.

With `join="mean"`, as in the paper, a clip's frames are averaged: what is seen does not depend on their order, so a
direction of motion cannot be told. Two ways out are ours: `join="tokens"` keeps the tokens of each frame, and with
kernels that have a length in time the `network` sees the motion before frames are averaged.

With `aligned`, ours too, video and caption are brought together before the transformer compares them, as in Li et al.
2021, "Align before Fuse" (arXiv:2107.07651), section 3.2: the right pairs of a batch are told from all others by the
cosine of what is seen and what is said, and the score of a match begins with that cosine.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.chance import Chance
from vidgen_core.encoders._views import cropped, resized, times
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Batch, Frozen, Player, Text, VideoEncoder, Work
from vidgen_core.layers.across import gathered, own_rows
from vidgen_core.layers.flops import Flops, convolution, product
from vidgen_core.layers.words import Words
from vidgen_core.networks.r3d import Config as Network
from vidgen_core.shapes import PerSample, Video

__all__ = ["ClipBERT", "Config", "aggregated"]

Tokens = Float[Tensor, "pairs tokens dim"]
# Word vectors whose cosine is above it are of one word.
_SAME_WORD = 0.99
# By which cosines of videos and captions are divided.
_TEMPERATURE = 0.1


class Config(Frozen):
    """The frames' network, the transformer, and how clips are chosen.

    Args:
        network: Reads each frame by itself; its maps are the grid.
        side_px: Frames are resized to this square.
        pooled: Whether a maximum over 2 x 2 halves the grid.
        join: Whether tokens of a clip's frames are averaged, or kept beside each other.
        text_dim: Width of a caption's tokens.
        dim, depth, heads: Of the transformer.
        frames, stride: Frames of a clip, and how far apart they are.
        clips, test_clips: Clips of a video, at random places in training and evenly spread otherwise.
        aggregate: How what clips say is put together: mean or maximum of logits, or the logarithm of the sum of their
            exponentials, with which a video's answer is that of the clips that are sure.
        negatives: Wrong captions for each video.
        hardness: How much likelier a wrong caption is that resembles the right one; 0 draws all alike.
        aligned: Whether videos and captions are also compared by themselves, before the transformer.
        least_area: Crops in training keep this share of the picture at least.
        dropout: Share of values that are left out in training.

    """

    network: Network = Network(time_kernels=(1, 1, 1, 1), stem=(1, 7))
    side_px: int = Field(448, gt=0)
    pooled: bool = True
    join: Literal["mean", "tokens"] = "mean"
    text_dim: int = 768
    dim: int = 768
    depth: int = 12
    heads: int = 12
    frames: int = Field(2, gt=0)
    stride: int = Field(12, gt=0)
    clips: int = Field(8, gt=0)
    test_clips: int = Field(16, gt=0)
    aggregate: Literal["mean", "max", "lse"] = "lse"
    negatives: int = Field(1, gt=0)
    hardness: float = Field(0.0, ge=0)
    aligned: bool = False
    least_area: float = Field(1.0, gt=0, le=1)
    dropout: float = Field(0.1, ge=0, lt=1)

    @classmethod
    def paper(cls) -> "Config":
        """ResNet-50 and BERT-base at 448 px, for captions of 768 wide tokens."""
        return cls()

    @classmethod
    def tiny(cls) -> "Config":
        """The sample videos and their captions as hashed words; convolutions along time see directions."""
        return cls(
            network=Network(
                widths=(16, 32, 64), blocks=(1, 1, 1), time_kernels=(1, 3, 3), expansion=1, stem=(3, 5), pooled=False
            ),
            side_px=32, pooled=False, text_dim=64, dim=64, depth=2, heads=4, frames=4, stride=2, clips=1, test_clips=2,
            hardness=4.0, aligned=True, least_area=0.8, dropout=0.0,
        )  # fmt: skip

    def build(self) -> "ClipBERT":
        """The untrained encoder."""
        return ClipBERT(self)


class Block(nn.Module):
    """A transformer block with norms after the sums, as BERT's. Devlin et al. 2018 (arXiv:1810.04805)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.to_qkv, self.to_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.norm, self.mlp_norm = nn.LayerNorm(dim, eps=1e-12), nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tokens, mask: Bool[Tensor, "pairs tokens"]) -> Tokens:
        """Every token reads those where the mask is True."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = self.norm(x + self.dropout(self.to_out(read.transpose(1, 2).flatten(2))))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))

    def flops(self, tokens: int) -> Flops:
        """Of one row of tokens."""
        layers = (self.to_qkv, self.to_out, self.mlp[0], self.mlp[2])
        scores = Flops(attention=4.0 * tokens**2 * self.to_out.in_features)
        return sum((product(layer, tokens) for layer in layers), scores)


class ClipBERT(VideoEncoder):
    """Video and captions to scores; `embed` is what the transformer makes of a video without a caption."""

    reads_text = True
    # Wrong captions are those of other samples.
    joins_samples = True
    learns: ClassVar[Mapping[str, int | float]] = {"steps": 1000, "batch": 32}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config: Config = config
        self.network, dim = config.network.build(), config.dim
        self.dim = dim
        self.grid = nn.Conv3d(self.network.dim, dim, (1, 3, 3), padding=(0, 1, 1), bias=False)
        side = self._grid_side()
        self.rows = nn.Parameter(0.02 * torch.randn(side, 1, dim))
        self.columns = nn.Parameter(0.02 * torch.randn(1, side, dim))
        self.frame_places = nn.Parameter(0.02 * torch.randn(config.frames, 1, 1, dim)) if self._apart else None
        self.kind = nn.Parameter(0.02 * torch.randn(2, dim))
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.words = Words(config.text_dim, dim)
        self.word_norm, self.grid_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.pooler = nn.Linear(dim, dim)
        if config.aligned:
            self.seen_as, self.told_as = nn.Linear(dim, dim), nn.Linear(config.text_dim, dim)
        self.answer = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, 2))

    def embed(self, video: Video) -> Tensor:
        """The pooled token of a video without a caption, averaged over its clips, [B, dim]."""
        starts = self._spread(video)
        seen = self._grid(video, starts).flatten(0, 1)
        tokens = seen.new_zeros(len(seen), 1, self.config.text_dim)
        pooled = self._pooled(seen, Text(tokens, torch.zeros(len(seen), 1, dtype=torch.bool, device=seen.device)))
        return pooled.unflatten(0, starts.shape).mean(1)

    def match(self, video: Video, text: Text) -> PerSample:
        """How much each caption fits its video [B]: the log odds of a match, over evenly spread clips."""
        logits = self._answers(self._grid(video, self._spread(video)), text)
        return logits[:, 1] - logits[:, 0]

    def match_all(self, video: Video, text: Text) -> Float[Tensor, "captions videos"]:
        """How much each caption fits each video."""
        seen, scores = self._grid(video, self._spread(video)), []
        for tokens, mask in zip(text.tokens, text.mask, strict=True):
            told = Text(tokens.expand(len(seen), -1, -1), mask.expand(len(seen), -1))
            logits = self._answers(seen, told)
            scores.append(logits[:, 1] - logits[:, 0])
        return torch.stack(scores)

    def players(self) -> Mapping[str, Player]:
        """All of it together."""
        return {"encoder": Player(dict(self.named_parameters()))}

    def losses(self, batch: Batch, chance: Chance) -> Iterator[tuple[str, Tensor]]:
        """Cross-entropy of match and no match, right and wrong captions counting the same; and that of `aligned`.

        Raises:
            VidgenError: There is one caption, so that none is wrong.

        """
        config, text = self.config, cast(Text, batch.text)
        draws = chance.uniform("clips", batch.index, (config.clips + 5,))
        offsets = max(1, batch.video.shape[2] - (config.frames - 1) * config.stride)
        video = cropped(resized(batch.video, config.side_px), draws[:, -5:], least_area=config.least_area)
        seen = self._grid(video, (draws[:, : config.clips] * offsets).long())
        said = _everybodys(text)
        wrong = _wrong(text, said, chance.uniform("wrong", batch.index, (config.negatives,)), config.hardness)
        captions = [text, *(Text(said.tokens[rows], said.mask[rows]) for rows in wrong.unbind(1))]
        every = Text(torch.cat([one.tokens for one in captions]), torch.cat([one.mask for one in captions]))
        logits = self._answers(seen.repeat(len(captions), 1, 1, 1), every)
        right = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        right[: len(seen)] = 1
        cost = F.cross_entropy(logits, right, reduction="none").view(len(captions), -1)
        loss = 0.5 * (cost[0].mean() + cost[1:].mean())
        yield "encoder", loss + self._told_apart(seen, text, said) if config.aligned else loss

    def held_out(self, batch: Batch, chance: Chance) -> dict[str, Tensor]:
        """Cross-entropy of the right caption alone: a sample by itself has no wrong one."""
        del chance
        score = self.match(batch.video, cast(Text, batch.text))
        return {"loss": F.softplus(-score)}

    def _told_apart(self, seen: Float[Tensor, "batch clips tokens dim"], text: Text, said: Text) -> Tensor:
        """InfoNCE of videos and captions by themselves, both ways; a pair that may be right too is left out."""
        right = _own(text, said)
        left_out = _alike(text, said) & (right[:, None] != torch.arange(len(said.mask), device=right.device))
        told, shown = self.told_as(_bags(text)).float(), self.seen_as(seen.mean((1, 2))).float()

        def logits(rows: Tensor, columns: Tensor) -> Tensor:
            return (_cosines(rows, columns) / _TEMPERATURE).masked_fill(left_out, -torch.inf)

        of_videos = logits(shown, gathered(told))
        # A worker alone has both ways in one matrix.
        of_captions = of_videos.T if len(said.mask) == len(shown) else logits(told, gathered(shown))
        return 0.5 * (F.cross_entropy(of_videos, right) + F.cross_entropy(of_captions, right))

    def work(self, shape: tuple[int, int, int, int], text_tokens: int) -> Work:
        """Clips of one video, and its captions with each of them."""
        del shape
        config, side = self.config, self.config.side_px
        network, size = self.network.costs((config.frames, side, side))
        frames = network + convolution(self.grid, config.frames * size[1] * size[2])
        grid = self._grid_side() ** 2 * (config.frames if self._apart else 1)
        tokens = 1 + text_tokens + grid
        blocks = sum((block.flops(tokens) for block in self.blocks if isinstance(block, Block)), Flops())
        ends = product(self.pooler, 1) + product(self.answer[0], 1) + product(self.answer[2], 1)
        pairs = config.clips * (1 + config.negatives)
        if config.aligned:
            ends += product(self.seen_as, 1) + product(self.told_as, 1)
        total = frames * config.clips + (blocks + ends + self.words.flops(text_tokens)) * pairs
        return Work(total.step, pairs * tokens)

    @property
    def _apart(self) -> bool:
        return self.config.join == "tokens"

    def _grid_side(self) -> int:
        side = self.network.costs((1, self.config.side_px, self.config.side_px))[1][1]
        return side // 2 if self.config.pooled else side

    def _spread(self, video: Video) -> Tensor:
        """Starts of evenly spread clips, [B, test_clips]."""
        config = self.config
        offsets = max(1, video.shape[2] - (config.frames - 1) * config.stride)
        return torch.tensor(times(offsets, config.test_clips), device=video.device).expand(len(video), -1)

    def _grid(self, video: Video, starts: Tensor) -> Float[Tensor, "batch clips tokens dim"]:
        """The tokens of clips that begin at `starts` [B, clips]; a video that is too short begins again."""
        config = self.config
        places = (starts[..., None] + config.stride * torch.arange(config.frames, device=starts.device)) % video.shape[
            2
        ]
        rows = torch.arange(len(video), device=starts.device)[:, None, None]
        frames = video.transpose(1, 2)[rows, places].flatten(0, 1).transpose(1, 2)
        x = self.grid(self.network.maps(resized(frames, config.side_px)))
        x = F.relu(F.max_pool3d(x, (1, 2, 2)) if config.pooled else x).permute(0, 2, 3, 4, 1)
        x = x + self.rows + self.columns + self.kind[1]
        x = x.mean(1) if self.frame_places is None else x + self.frame_places
        return self.dropout(self.grid_norm(x.flatten(1, -2))).unflatten(0, starts.shape)

    def _answers(self, seen: Float[Tensor, "batch clips tokens dim"], text: Text) -> Float[Tensor, "batch 2"]:
        """Logits of no match and match, over the clips of each video."""
        clips = seen.shape[1]
        each = Text(text.tokens.repeat_interleave(clips, 0), text.mask.repeat_interleave(clips, 0))
        logits = self.answer(self._pooled(seen.flatten(0, 1), each)).float().unflatten(0, (-1, clips))
        if self.config.aligned:
            told = self.told_as(_bags(text))[:, None]
            alike = F.cosine_similarity(self.seen_as(seen.mean(2)).float(), told.float(), dim=-1) / _TEMPERATURE
            logits = logits + F.pad(alike[..., None], (1, 0))
        return aggregated(logits, self.config.aggregate)

    def _pooled(self, seen: Tokens, text: Text) -> Float[Tensor, "pairs dim"]:
        """The first token after all blocks."""
        words, mask = self.words(text)
        words = torch.cat([self.first.expand(len(seen), -1, -1), words], dim=1)
        x = torch.cat([self.dropout(self.word_norm(words + self.kind[0])), seen], dim=1)
        mask = F.pad(F.pad(mask, (1, 0), value=True), (0, seen.shape[1]), value=True)
        for block in self.blocks:
            x = block(x, mask)
        return self.pooler(x[:, 0]).tanh()


def aggregated(logits: Float[Tensor, "batch clips classes"], how: str) -> Float[Tensor, "batch classes"]:
    """What clips of a video say together; "lse" is eq. 3 of the paper before its normalization."""
    if how == "lse":
        return logits.logsumexp(1)
    return logits.amax(1) if how == "max" else logits.mean(1)


def _everybodys(text: Text) -> Text:
    """The captions of all workers.

    Raises:
        VidgenError: There is only one.

    """
    said = Text(gathered(text.tokens), gathered(text.mask.to(torch.uint8)).bool())
    if len(said.mask) < 2:
        raise VidgenError(
            "Wrong captions are those of other samples, and there is no other", got="1 sample a step and pass",
            allowed="2 or more", move="Raise training.batch, or lower training.accumulate",
        )  # fmt: skip
    return said


def _own(text: Text, said: Text) -> Int[Tensor, " batch"]:
    """Where this worker's captions are among those of all."""
    mine = own_rows(len(text.mask))
    return torch.arange(mine.start, mine.stop, device=said.mask.device)


@torch.no_grad()
def _wrong(text: Text, said: Text, draws: Float[Tensor, "batch negatives"], hardness: float) -> Tensor:
    """Wrong captions for each of a worker's, [B, negatives]: rows of those of all workers.

    A caption whose words are all among those of the right one, or the other way around, may be right too; it is taken
    only where there is no other. Of the rest those that share more words are likelier.
    """
    own, every = (F.normalize(_bags(one), dim=-1) for one in (text, said))
    others = _own(text, said)[:, None] != torch.arange(len(every), device=every.device)
    chosen = torch.exp(hardness * (own @ every.T)) * torch.where(_alike(text, said), 1e-6, 1.0) * others
    edges = chosen.cumsum(1)
    return (edges[:, None] > draws[..., None] * edges[:, None, -1:]).int().argmax(2)


def _alike(text: Text, said: Text) -> Bool[Tensor, "batch captions"]:
    """Whether one of two captions says nothing that the other does not."""
    return _within(text, said) | _within(said, text).T


def _within(one: Text, other: Text) -> Bool[Tensor, "ones others"]:
    """Whether all words of caption i are in caption j."""
    same = torch.einsum("ild,jmd->ijlm", _directions(one), _directions(other)) > _SAME_WORD
    return (same.any(3) | ~one.mask[:, None]).all(2)


def _cosines(one: Float[Tensor, "ones dim"], other: Float[Tensor, "others dim"]) -> Float[Tensor, "ones others"]:
    return F.cosine_similarity(one[:, None], other[None], dim=-1)


def _bags(text: Text) -> Float[Tensor, "batch text_dim"]:
    """The sum of each caption's words, all of one length."""
    return _directions(text).sum(1)


def _directions(text: Text) -> Float[Tensor, "batch tokens text_dim"]:
    return F.normalize(text.tokens.float(), dim=-1) * text.mask[..., None]
