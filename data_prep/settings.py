"""What `prepare` is told: the clips wanted and the thresholds."""

from typing import Literal, Self

from pydantic import Field, field_validator

from data_prep.captioners._contract import CaptionerSettings, ServerSettings
from data_prep.duplicates.settings import DuplicateSettings
from data_prep.score_settings import ScoreSettings
from data_prep.select import Select
from data_prep.shots import ShotSettings
from vidgen_core.clip import parse_rate
from vidgen_core.frozen import Frozen

__all__ = ["CaptionerSettings", "ClipShape", "DataSettings", "ServerSettings", "ShotSettings"]


class ClipShape(Frozen):
    """The size of a clip.

    Args:
        frames, height, width: Its pictures, and their size in px.

    """

    frames: int = Field(ge=1)
    height: int = Field(ge=8)
    width: int = Field(ge=8)


class DataSettings(Frozen):
    """The clips that a recipe wants.

    Args:
        frames, height, width: Shape of a clip; with `shapes` the main one, in which videos are drawn and measured.
        shapes: Further shapes. A shot is cut in those of the nearest aspect, as long as it holds.
        frame_rate: Frames a second of a clip, as a fraction.
        held_out_share: Share of sources kept from training; all that show the same footage are on one side.
        select: The rules that keep or drop.
        shots: Which detector finds the shots.
        captioner: Who captions clips.
        scores: The models that score spans.
        duplicates: What counts as a copy of what is there already.
        audio: "keep" to keep the sound of each clip beside it, in the table `audio`.
        source_deadline_s: A source that takes longer is given up.
        loss_budget: Share of the sources that errors may cost. A run that loses more commits all its good work and
            then fails; 1 allows everything.

    """

    frames: int = Field(9, ge=1)
    height: int = Field(32, ge=8)
    width: int = Field(32, ge=8)
    shapes: tuple[ClipShape, ...] = Field((), exclude_if=lambda shapes: not shapes)
    frame_rate: str = "8"
    held_out_share: float = Field(0.1, ge=0, lt=1)
    select: Select = Select()
    shots: ShotSettings = ShotSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    captioner: CaptionerSettings = CaptionerSettings()
    scores: ScoreSettings = ScoreSettings()
    audio: Literal["none", "keep"] = "none"
    source_deadline_s: float = Field(600.0, gt=0)
    loss_budget: float = Field(1.0, ge=0, le=1)

    @field_validator("frame_rate")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        return str(parse_rate(value))

    @field_validator("shapes")
    @classmethod
    def _in_one_order(cls, shapes: tuple[ClipShape, ...]) -> tuple[ClipShape, ...]:
        """Their order says nothing, so it makes no other data."""
        return tuple(sorted(set(shapes), key=lambda shape: (shape.frames, shape.height, shape.width)))

    def each_shape(self) -> tuple[Self, ...]:
        """These settings once for every shape, the main one first, as if it were the only one."""
        main = ClipShape(frames=self.frames, height=self.height, width=self.width)
        every = (main, *(shape for shape in self.shapes if shape != main))
        return tuple(self.model_copy(update={**shape.model_dump(), "shapes": ()}) for shape in every)
