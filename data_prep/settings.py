"""What `prepare` is told: the clips wanted and the thresholds."""

from pydantic import Field, field_validator

from data_prep.duplicates.settings import DuplicateSettings
from data_prep.select import Select
from vidgen_core.clip import parse_rate
from vidgen_core.frozen import Frozen

__all__ = ["CaptionerSettings", "DataSettings", "ShotSettings"]


class ShotSettings(Frozen):
    """Thresholds of the shot detector, in gray levels (0 to 255) of 48 x 27 thumbnails.

    Args:
        cut_change: A hard cut changes the picture by at least so much on average.
        cut_ratio: And by so many times the median change of the frames around it.
        dissolve_change: A dissolve changes it by so much from its first to its last frame.

    """

    cut_change: float = 10.0
    cut_ratio: float = 3.0
    dissolve_change: float = 12.0


class CaptionerSettings(Frozen):
    """What captions clips that have no caption beside their video.

    Args:
        name: A file of `data_prep/captioners`.
        model: The architecture, by the captioner's own name for it.
        weights: A checkpoint file, or a tag that the captioner can download; empty for no captioner.
        tokens: Longest caption.

    """

    name: str = "coca"
    model: str = "coca_ViT-L-14"
    weights: str = ""
    tokens: int = Field(30, ge=3, le=76)


class DataSettings(Frozen):
    """The clips that a recipe wants.

    Args:
        frames, height, width: Shape of a clip.
        frame_rate: Frames a second of a clip, as a fraction.
        held_out_share: Share of sources kept from training; all that show the same footage are on one side.
        select: The rules that keep or drop.
        shots: The shot detector.
        duplicates: What counts as a copy of what is there already.
        captioner: Who captions clips without a caption.
        source_deadline_s: A source that takes longer is given up.

    """

    frames: int = Field(9, ge=1)
    height: int = Field(32, ge=8)
    width: int = Field(32, ge=8)
    frame_rate: str = "8"
    held_out_share: float = Field(0.1, ge=0, lt=1)
    select: Select = Select()
    shots: ShotSettings = ShotSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    captioner: CaptionerSettings = CaptionerSettings()
    source_deadline_s: float = Field(600.0, gt=0)

    @field_validator("frame_rate")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        return str(parse_rate(value))
