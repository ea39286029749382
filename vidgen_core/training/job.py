"""A training run as a value: what learns, from what, how, and where it keeps its work."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import field_validator

from vidgen_core import digests, discovery
from vidgen_core.chance import Chance
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen
from vidgen_core.interfaces import Family, Learner, Space
from vidgen_core.training.place import Place
from vidgen_core.training.settings import TrainSettings

__all__ = ["Data", "Job"]


class Data(Frozen):
    """The Parquet files a run learns from.

    Args:
        kind: Whether samples are stored latents (column `latent`) or clips to decode (column `media`).
        files: Files with `clip_id`, `split` and the sample. Samples are ordered by `clip_id`, not by file.
        captions: Files with `clip_id` and `caption`.
        embeddings: Files with `caption`, `tokens` and `mask`.
        scalars: Files with `clip_id` and a column for each scalar condition, or label.
        train: The split to learn from.
        held_out: The split of the held-out passes.

    """

    kind: Literal["latents", "clips"]
    files: tuple[Path, ...]
    captions: tuple[Path, ...] = ()
    embeddings: tuple[Path, ...] = ()
    scalars: tuple[Path, ...] = ()
    train: str = "train"
    held_out: str = "held_out"

    @field_validator("files", "captions", "embeddings", "scalars")
    @classmethod
    def _absolute(cls, files: tuple[Path, ...]) -> tuple[Path, ...]:
        # Ray Train's workers stand in another folder.
        return tuple(file.absolute() for file in files)


class Job(Frozen):
    """One run.

    Args:
        kind: The package that the learner's file is in.
        name: The learner's file.
        config: Values of its `Config`.
        space: Where a family lives; codecs and encoders need none.
        settings: How it learns.
        data: What it learns from.
        work_dir: Folder of this run alone: checkpoints, history, progress, and at the end `final`.

    """

    kind: Literal["families", "codecs", "encoders"]
    name: str
    config: dict[str, Any] = {}
    space: Space | None = None
    settings: TrainSettings
    data: Data
    work_dir: Path

    @field_validator("work_dir")
    @classmethod
    def _absolute(cls, work_dir: Path) -> Path:
        return work_dir.absolute()

    @property
    def final_dir(self) -> Path:
        """Where the averaged weights are once the run is done."""
        return self.work_dir / "final"

    @property
    def checkpoints(self) -> str:
        """Folder or address of the run's checkpoints."""
        return self._kept("checkpoints")

    @property
    def averages(self) -> str:
        """Folder or address of the run's snapshots of power-function averages."""
        return self._kept("averages")

    def _kept(self, name: str) -> str:
        outside = self.settings.checkpoint_uri.rstrip("/")
        return f"{outside}/{self.work_dir.name}/{name}" if outside else str(self.work_dir / name)

    def build(self) -> Learner:
        """The learner with its initial weights, which are a function of the seed.

        Raises:
            VidgenError: There is no such learner, or it has nothing to learn.

        """
        config = discovery.load(f"vidgen_core.{self.kind}", self.name).Config.model_validate(self.config)
        with torch.random.fork_rng(devices=[]):
            Place().seed(Chance(self.settings.seed).generator("initial_weights"))
            learner = config.build() if self.space is None else config.build(self.space)
        if not isinstance(learner, Learner):
            raise VidgenError(f"{self.name!r} has nothing to learn", move="Use it as it is, without training")
        if (
            self.space is not None
            and self.space.scalars
            and not (isinstance(learner, Family) and learner.accepts_scalars)
        ):
            raise VidgenError(f"{self.name!r} does not read conditions", move="Take them out: --set 'conditions=[]'")
        return learner

    def digest(self, samples_digest: str) -> str:
        """What two runs share exactly when one may go on with the other's checkpoints."""
        learner = self.model_dump(mode="json", include={"kind", "name", "config", "space"})
        return digests.of_value({**learner, "settings": self.settings.identity(), "samples": samples_digest}, 64)
