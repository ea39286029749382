"""Trained weights of a family that another one learns from: the folder of a generator, read and checked."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from vidgen_core import weights
from vidgen_core.choices import FamilyChoice
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Space

__all__ = ["check_teacher", "taught"]


def check_teacher(folder: Path, teacher: FamilyChoice) -> dict[str, Any]:
    """What a generator's folder says of itself.

    Raises:
        VidgenError: The folder is no generator, or one of another family or configuration.

    """
    file = folder / "generator.json"
    if not file.is_file():
        raise VidgenError(
            "There is no trained teacher in this folder",
            got=str(folder),
            allowed="the folder of a generator, or a registered model as name@champion",
            move="Train one: vidgen run; or drop family.teacher_weights to learn without a teacher",
        )
    card: dict[str, Any] = json.loads(file.read_text())
    if card["family"] != teacher.name:
        raise VidgenError(
            "The trained teacher is of another family than the one that is named",
            got=card["family"],
            allowed=teacher.name,
            move=f"Name it: --set family.teacher={card['family']}:SIZE",
        )
    config = teacher.config()
    differ = {name: value for name, value in card["config"].items() if config.get(name) != value}
    if differ:
        whole = json.dumps({"name": teacher.name, "options": differ})
        raise VidgenError(
            "The trained teacher is built otherwise than the one that is named",
            got=differ,
            allowed={name: config.get(name) for name in differ},
            move=f"Name it so: --set 'family.teacher={whole}'",
        )
    return card


def taught(folder: Path, teacher: FamilyChoice, space: Space) -> dict[str, Tensor]:
    """The weights of a trained teacher.

    Raises:
        VidgenError: See `check_teacher`; or the teacher lives in another space, or its weights are damaged.

    """
    theirs = Space.model_validate(check_teacher(folder, teacher)["space"])
    if theirs != space:
        raise VidgenError(
            "The trained teacher lives in another space than its student would",
            got=f"text width {theirs.text_dim}, (channels, frames, height, width) {theirs.shape}, "
            f"conditions {[one.name for one in theirs.scalars]}",
            allowed=f"text width {space.text_dim}, {space.shape}, conditions {[one.name for one in space.scalars]}",
            move="Use the codec, the text encoder and the clips' size that the teacher learned with",
        )
    state, _ = weights.load(folder / "family")
    return state
