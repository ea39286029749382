"""What a frame reads of the frames before it in a pyramid: the older, the coarser.

Jin et al. 2024, "Pyramidal Flow Matching" (arXiv:2410.05954), section 3.3. A frame at stage k reads the one before it
at resolution k, the one before that at k - 1, and all that are older at resolution 0. So a copy of a frame at some
resolution always reads the same, whichever frame and stage it is read by: its keys and values can be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from vidgen_core.networks.mmdit import Frames, Kept, MMDiT
from vidgen_core.pyramid import coarser
from vidgen_core.shapes import Latents

__all__ = ["History", "Packing", "levels_of", "read_by"]

Numbers = Int64[Tensor, "batch frames"]


def read_by(frame: int, stage: int) -> list[tuple[int, int]]:
    """(frame, resolution) of all copies that a frame at a stage reads, in the order of time."""
    return [(earlier, max(0, stage - (frame - 1 - earlier))) for earlier in range(frame)]


def levels_of(video: Latents, count: int) -> list[Latents]:
    """A clip at so many resolutions, from the coarsest to its own."""
    levels = [video]
    for _ in range(count - 1):
        levels.append(coarser(levels[-1]))
    return levels[::-1]


@dataclass(frozen=True)
class _Slot:
    """A place for one frame in a packed sequence: a shared copy, a copy that one unit reads, or the noisy unit itself.

    Attributes:
        unit: Whose it is; None is shared by all.
        place: Frames behind the unit's; the frame's number where it is shared.

    """

    unit: int | None
    place: int


class Packing:
    """Several units of one clip, each a noisy frame at a stage, with all that they read, as one sequence.

    The coarsest copies of all frames are there once, for all units. Finer ones are there for each unit that reads
    them. What is there depends on how many units there are of each stage and not on which frames they are, so that
    every sample costs the same.

    Args:
        frames: Of a clip.
        units: How many units there are of each stage, from the coarsest; units are numbered in this order.

    """

    def __init__(self, frames: int, units: Sequence[int]) -> None:
        self.stages = [stage for stage, count in enumerate(units) for _ in range(count)]
        self.groups: list[list[_Slot]] = []
        for level, count in enumerate(units):
            clean = [_Slot(None, frame) for frame in range(frames - 1)] if level == 0 else []
            if level:
                clean = [_Slot(u, stage - level + 1) for u, stage in enumerate(self.stages) if stage >= level]
            first = self.stages.index(level)
            self.groups.append(clean + [_Slot(u, 0) for u in range(first, first + count)])
        self.units, self._frames = list(units), frames

    def sizes(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """(frames, height, width, noisy frames) of each group, as `MMDiT.flops` wants them."""
        finest = len(self.groups) - 1
        return [
            (len(slots), height >> (finest - level), width >> (finest - level), self.units[level])
            for level, slots in enumerate(self.groups)
        ]

    def spread_out(self, part: float) -> Int64[Tensor, " units"]:
        """A frame for each unit: those of a stage share the clip out evenly, and stand at a part of their share."""
        places = torch.cat([(torch.arange(count) + part) / count for count in self.units])
        return (places * self._frames).long()

    def numbers(self, chosen: Numbers) -> Numbers:
        """Which frame is in each slot, for the frames [B, units] that were chosen; below 0 there is none."""
        slots = [slot for group in self.groups for slot in group]
        whose = torch.tensor([len(self.stages) if slot.unit is None else slot.unit for slot in slots])
        offset = torch.tensor([slot.place if slot.unit is None else -slot.place for slot in slots])
        base = torch.cat([chosen, torch.zeros_like(chosen[:, :1])], dim=1)
        return base[:, whose.to(chosen.device)] + offset.to(chosen.device)

    def sees(self, numbers: Numbers) -> Bool[Tensor, "batch frames frames"]:
        """Which slot (row) attends to which: a copy of a unit's to what `read_by` lists up to it, all to themselves."""
        slots = [slot for group in self.groups for slot in group]
        unit = torch.tensor([-1 if slot.unit is None else slot.unit for slot in slots], device=numbers.device)
        # The newest shared frame that a slot of a unit reads is so far behind it.
        behind = torch.tensor(
            [0 if slot.unit is None else self.stages[slot.unit] + 1 - slot.place for slot in slots],
            device=numbers.device,
        )
        newer, older = numbers[:, :, None], numbers[:, None, :]
        exists = older >= 0
        own = (unit[:, None] == unit) & (older <= newer)
        shared = (unit[:, None] >= 0) & (unit < 0) & (older <= newer - behind[:, None])
        return ((own | shared) & exists) | torch.eye(len(slots), dtype=torch.bool, device=numbers.device)


class History:
    """Finished frames of clips that are being made, as keys and values of all the copies that later frames read.

    Args:
        network: Reads them.
        said, words: What `MMDiT.hear` made of what is said of the clips; the rows of the batch.
        levels: How many resolutions there are.

    """

    def __init__(self, network: MMDiT, said: Tensor, words: Kept | None, levels: int) -> None:
        self._network, self._said, self._words, self._levels = network, said, words, levels
        self._kept: dict[tuple[int, int], Kept] = {}
        self._frames = 0

    def read_by_next(self, stage: int) -> Kept | None:
        """All that the next frame reads at a stage, after the words."""
        copies = [self._kept[copy] for copy in read_by(self._frames, stage)]
        parts = copies if self._words is None else [self._words, *copies]
        return Kept.joined(parts) if parts else None

    def add(self, frame: Latents) -> None:
        """A finished frame [B, C, 1, H, W], the next of its clip; rows of the batch hold it several times over."""
        rows = len(self._said)
        number = torch.full((rows, 1), float(self._frames), device=frame.device)
        added = []
        for level, video in enumerate(levels_of(frame, self._levels)):
            scale = 2 ** (self._levels - 1 - level)
            copy = Frames(video.repeat(rows // len(video), 1, 1, 1, 1), number, torch.zeros_like(number), scale, 1)
            # A copy reads what its frame would have read one stage earlier.
            kept = self._network([copy], self._said, self.read_by_next(level - 1), keep=True)[1]
            assert kept is not None
            added.append(kept)
        self._kept |= {(self._frames, level): kept for level, kept in enumerate(added)}
        self._frames += 1
        for at, level in list(self._kept):
            if level and at <= self._frames - self._levels:
                del self._kept[at, level]
