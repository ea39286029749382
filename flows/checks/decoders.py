"""ffmpeg and the decoders: a clip of known frames, written and read back by each."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.checks._finding import Finding, State, Subject

__all__ = ["check"]

_FRAMES, _SIDE = 12, 64
# Of brightness levels 0, 18, 36 ...: the encoder may miss by less than half of a step.
_STEP, _TOLERANCE = 18, 6


def check(_subject: Subject) -> Iterator[Finding]:
    """Whether each decoder gives every frame of a clip in its place."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "levels.mp4"
        written = _write(file)
        yield written
        if written.state is not State.GOOD:
            return
        for name, read in (("PyAV", _by_av), ("decord", _by_decord)):
            yield _judge(name, read, file)


def _write(file: Path) -> Finding:
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        move = "pip install --force-reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE"
        return Finding(what="ffmpeg", state=State.BAD, found=str(error), move=move)
    levels = np.repeat(np.arange(_FRAMES, dtype=np.uint8) * _STEP, _SIDE * _SIDE).tobytes()
    made = subprocess.run(
        [program, "-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{_SIDE}x{_SIDE}", "-r", "10", "-i", "-",
         "-c:v", "libx264", "-pix_fmt", "yuv420p", "-color_range", "tv", "-y", str(file)],
        input=levels, capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        words = made.stderr.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        return Finding(what="ffmpeg", state=State.BAD, found=words[-1], move="Take an ffmpeg that has libx264")
    return Finding(what="ffmpeg", state=State.GOOD, found=program)


def _judge(name: str, read: Callable[[Path], NDArray[np.float64]], file: Path) -> Finding:
    try:
        levels = read(file)
    except Exception as error:  # noqa: BLE001 - whatever a broken library raises is the finding
        found = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding(what=name, state=State.BAD, found=found, move=f"Reinstall {name.lower()} at its pinned version")
    wanted = np.arange(_FRAMES) * _STEP
    if len(levels) != _FRAMES or np.abs(levels - wanted).max() > _TOLERANCE:
        found = f"reads other frames than were written: {np.round(levels).astype(int).tolist()}"
        return Finding(what=name, state=State.BAD, found=found, move=f"Reinstall {name.lower()} at its pinned version")
    return Finding(what=name, state=State.GOOD, found=f"reads {_FRAMES} of {_FRAMES} frames right")


def _by_av(file: Path) -> NDArray[np.float64]:
    import av

    with av.open(str(file)) as container:
        return np.array([frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)])


def _by_decord(file: Path) -> NDArray[np.float64]:
    import decord

    reader = decord.VideoReader(str(file), num_threads=1)
    return np.array([reader[place].asnumpy().mean() for place in range(len(reader))])
