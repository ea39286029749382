"""What a run tells while it learns: rows for the recorder and the history, and progress for whoever waits."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vidgen_core.training.job import Job
from vidgen_core.training.loop import Step
from vidgen_core.training.place import Place
from vidgen_core.training.speed import Meter
from vidgen_core.training.system import System

__all__ = ["History", "Journal", "Progress", "Recorder", "write_progress"]

_log = logging.getLogger(__name__)
# progress(steps done, steps in all, figures of the moment)
Progress = Callable[[int, int, Mapping[str, float]], None]

_PROGRESS_S = 0.5
# What of the meter is shown while the run goes on.
_SHOWN = ("steps_per_s", "samples_per_s", "tokens_per_s", "mfu", "wait_share")


@runtime_checkable
class Recorder(Protocol):
    """Where logged rows go besides the history, for example an experiment tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take one row."""

    def flush(self) -> None:
        """Write what is held back; a checkpoint comes after it, so that a run that goes on from there lacks no row."""

    def close(self) -> None:
        """Write what is still held back."""


class History:
    """The rows of a run in `history.jsonl`, one JSON object {"step": ..., name: value} a line.

    Args:
        file: The file.
        until_step: Rows of later steps are dropped: the run that logged them did not live to save them.

    """

    def __init__(self, file: Path, until_step: int) -> None:
        kept = [row for row in self.read(file) if row["step"] <= until_step]
        staged = file.with_name(f".{file.name}")
        staged.write_text("".join(f"{json.dumps(row)}\n" for row in kept))
        staged.replace(file)
        self._stream = file.open("a")

    @staticmethod
    def read(file: Path) -> list[dict[str, Any]]:
        """All rows; a line that a kill cut short is left out."""
        rows = []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row."""
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()

    def sync(self) -> None:
        """Wait until every row is on the disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class Journal:
    """What one run tells; only the first worker's journal speaks.

    Args:
        job: The run.
        place: Which worker this is.
        meter: Measures the speed.
        recorder: Takes the rows besides the history.
        progress: Told at most twice a second.
        kept: What a checkpoint kept of the journal.
        step: Steps done when the journal opens.

    """

    def __init__(
        self, job: Job, place: Place, meter: Meter, *, recorder: Recorder | None, progress: Progress | None,
        kept: Mapping[str, Any] | None, step: int,
    ) -> None:  # fmt: skip
        self._settings, self._speaks = job.settings, place.first
        self._recorder, self._progress = recorder, progress
        # Sums since the last row: a checkpoint keeps them, so that a resumed run logs what an unbroken one does.
        self._sums: dict[str, list[float]] = dict(kept["sums"]) if kept else {}
        self.held_out: dict[str, float] = dict(kept["held_out"]) if kept else {}
        self._meter, self._system = meter, System(place)
        self._last_told = -math.inf
        self._compared = False
        if self._speaks:
            job.work_dir.mkdir(parents=True, exist_ok=True)
            self._history = History(job.work_dir / "history.jsonl", until_step=step)
            self._progress = progress or write_progress(job.work_dir / "progress.json", "train")
            self._progress(step, self._settings.steps, {})

    def step(self, step: Step) -> None:
        """Count one step in, and tell progress when it is due."""
        self._meter.add(step.wait_s, step.pieces)
        for turn in step.turns:
            if turn.stepped:
                self._add(f"train/loss/{turn.player}", turn.loss)
                self._add(f"train/gradient_norm/{turn.player}", turn.norm)
        done, total = step.number, self._settings.steps
        if self._speaks and self._progress and (self._due() or done == total):
            figures = self._meter.figures()
            losses = {f"loss/{turn.player}": turn.loss for turn in step.turns if turn.stepped}
            self._progress(done, total, {**losses, **{name: figures[name] for name in _SHOWN}})

    def row(self, step: Step, skipped: int) -> None:
        """Log the means since the last row."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        updates = {f"train/update_ratio/{player}": ratio for player, ratio in step.updates.items()}
        state = {"train/learning_rate": step.rate, "train/skipped_steps": float(skipped)}
        clocked = {f"speed/{name}": value for name, value in {**self._meter.figures(), **self._comparison()}.items()}
        clocked |= {f"system/{name}": value for name, value in self._system.figures().items()}
        self._log(step.number, {**means, **updates, **state, **clocked})

    def measured(self, step: Step, values: Mapping[str, float]) -> None:
        """Log a held-out pass."""
        self.held_out = {name: value for name, value in values.items() if math.isfinite(value)}
        if self.held_out:
            self._log(step.number, {f"held_out/{name}": value for name, value in self.held_out.items()})

    def keep(self) -> dict[str, Any]:
        """What a checkpoint keeps; every row so far is on the disk, and with the recorder, before it."""
        if self._speaks:
            self._history.sync()
            if self._recorder is not None:
                self._recorder.flush()
        return {"sums": self._sums, "held_out": self.held_out}

    def close(self) -> None:
        """Close the history."""
        if self._speaks:
            self._history.close()

    def _comparison(self) -> dict[str, float]:
        """Predicted against measured, once."""
        told = {} if self._compared or not self._speaks else self._meter.comparison()
        if told:
            self._compared = True
            _log.info("A step was predicted to take %(predicted_step_s).3g s and takes %(measured_step_s).3g s", told)
        return told

    def _due(self) -> bool:
        """Whether it is time to tell progress again: at most twice a second."""
        now = time.monotonic()
        if now - self._last_told < _PROGRESS_S:
            return False
        self._last_told = now
        return True

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        if self._speaks:
            self._history.log(step, values)
            if self._recorder is not None:
                self._recorder.log(step, values)

    def _add(self, name: str, value: float) -> None:
        pair = self._sums.setdefault(name, [0.0, 0.0])
        pair[0] += value
        pair[1] += 1


def write_progress(file: Path, stage: str) -> Progress:
    """A progress that writes a JSON file whole each time, for another process to show."""

    def progress(done: int, total: int, figures: Mapping[str, float]) -> None:
        rate = figures.get("steps_per_s", 0.0)
        remaining_s = (total - done) / rate if rate else None
        told = {"stage": stage, "done": done, "total": total, "rate": rate, "remaining_s": remaining_s}
        staged = file.with_name(f".{file.name}")
        staged.write_text(json.dumps({**told, "figures": dict(figures)}))
        staged.replace(file)

    return progress
