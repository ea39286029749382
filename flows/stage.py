"""What a launcher starts: `python -m flows.stage --spec FILE` runs one stage and writes its answer beside the spec.

Exit code 0: the answer is in `<stage>.json`; 2: a sentence for the user is in `<stage>.mistake.json`; 28: the disk is
full; anything else: a bug, or the machine's fault, and the log ends with the traceback.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from flows.failures import DISK_FULL_EXIT, MISTAKE_EXIT, Mistake, is_disk_full
from flows.spec import Progress, Spec
from vidgen_core import discovery
from vidgen_core.errors import VidgenError

__all__ = ["ProgressFile", "main", "write_value"]


class ProgressFile:
    """Tells the launcher how far we are: `progress(done, total)`, at most twice a second."""

    def __init__(self, file: Path, stage: str) -> None:
        self._file, self._stage = file, stage
        self._began = self._told = 0.0
        self._first = 0

    def __call__(self, done: int, total: int | None = None) -> None:
        """So many are done."""
        now = time.monotonic()
        if not self._began or done < self._first:
            self._began, self._first = now, done
        if now - self._told < 0.5 and done != total:
            return
        self._told = now
        rate = (done - self._first) / (now - self._began) if now > self._began else 0.0
        remaining = (total - done) / rate if total is not None and rate else None
        value = Progress(stage=self._stage, done=done, total=total, rate=rate or None, remaining_s=remaining)
        write_value(self._file, value)

    def named(self, stage: str) -> "ProgressFile":
        """The same file, for another part of the stage's work."""
        return ProgressFile(self._file, stage)


def write_value(file: Path, value: BaseModel) -> None:
    """Write a value so that a reader meets the old one or the new one, never a half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(value.model_dump_json(indent=1))
    fresh.replace(file)


def main(arguments: list[str] | None = None) -> int:
    """Run the stage of a spec file; the exit code says how it ended."""
    parser = argparse.ArgumentParser(prog="python -m flows.stage", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="the spec, as JSON")
    parser.add_argument("--ray", help="HOST:PORT of the cluster to work on, instead of what the spec says")
    told = parser.parse_args(arguments)
    spec = Spec.model_validate_json(told.spec.read_text())
    if told.ray is not None:
        spec = spec.model_copy(update={"ray": told.ray})
    began = time.monotonic()
    try:
        # A predecessor that was killed with its launcher may need a moment to die.
        with spec.home.lock("stage", wait_s=30.0):
            stage = discovery.load("flows.stages", spec.stage)
            result = stage.run(spec, ProgressFile(spec.progress_file, spec.stage))
            seconds = round(time.monotonic() - began, 2)
            write_value(spec.result_file(spec.stage), result.model_copy(update={"seconds": seconds}))
    except VidgenError as error:
        write_value(spec.mistake_file, Mistake.of(error))
        return MISTAKE_EXIT
    except Exception as error:
        if is_disk_full(error):
            return DISK_FULL_EXIT
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
