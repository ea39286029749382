"""Write one planned film: the video by ffmpeg, the captions beside it as WebVTT, the truth as JSON."""

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np

from data_prep.samples.draw import frames
from data_prep.samples.plan import FRAME_RATE, Film, Shot
from vidgen_core.errors import VidgenError

__all__ = ["write"]

# One thread: with more, the bytes would depend on the machine.
_ENCODERS: dict[str, dict[str, Any]] = {
    ".mp4": {"vcodec": "libx264", "preset": "veryfast", "crf": 18},
    ".webm": {"vcodec": "libvpx-vp9", "deadline": "good", "cpu-used": 6, "row-mt": 0, "crf": 22, "b:v": 0},
}


def write(film: Film, directory: Path) -> Path:
    """Write the film and what stands beside it; the video comes last and whole, so a file that is there is done."""
    file = directory / film.name
    _replace(file.with_suffix(".truth.json"), json.dumps(_truth(film), indent=1).encode())
    if film.broken is None:
        _replace(file.with_suffix(".vtt"), _captions(film).encode())
    if film.broken == "empty":
        _replace(file, b"")
    elif film.broken == "garbage":
        _replace(file, _garbage(film))
    else:
        staged = file.with_name(f".{film.name}.part")
        try:
            _encode(film, staged, _ENCODERS[file.suffix])
            if film.broken == "no index":
                # An mp4's index is its last part: three quarters of the file hold pictures that nobody can find.
                staged.write_bytes(staged.read_bytes()[: staged.stat().st_size * 3 // 4])
            staged.replace(file)
        finally:
            staged.unlink(missing_ok=True)
    return file


def _encode(film: Film, file: Path, encoder: dict[str, Any]) -> None:
    width, height = film.size_px
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=str(FRAME_RATE))
    container = {".mp4": "mp4", ".webm": "webm"}[Path(film.name).suffix]
    command = source.output(
        str(file), **encoder, pix_fmt="yuv420p", threads=1, f=container, fflags="+bitexact", **{"flags:v": "+bitexact"}
    ).global_args("-v", "error", "-nostdin")
    process = subprocess.Popen(
        command.overwrite_output().compile(cmd=imageio_ffmpeg.get_ffmpeg_exe()),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pictures = b"".join(frame.tobytes() for frame in frames(film))
    _, complaint = process.communicate(pictures)
    if process.returncode != 0:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise VidgenError(
            f"ffmpeg could not write {file}", got=lines[-1] if lines else f"exit code {process.returncode}"
        )


def _captions(film: Film) -> str:
    cues = [
        f"{_clock(shot.start / FRAME_RATE)} --> {_clock(shot.stop / FRAME_RATE)}\n{shot.caption}\n"
        for shot in film.shots
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(time_s: Fraction) -> str:
    milliseconds = round(time_s * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def _truth(film: Film) -> dict[str, Any]:
    """What there is to know about the file; places are pixels of its frames, bars included."""
    if film.broken is not None:
        return {"file": film.name, "broken": film.broken}
    x, y, width, height = film.picture
    return {
        "file": film.name,
        "broken": None,
        "frame_rate": str(FRAME_RATE),
        "frames": film.frames,
        "width": film.size_px[0],
        "height": film.size_px[1],
        "picture": {"x": x, "y": y, "width": width, "height": height},
        "cuts": film.cuts,
        "dissolves": [list(span) for span in film.dissolves],
        "shots": [_shot_truth(shot, (x, y)) for shot in film.shots],
    }


def _shot_truth(shot: Shot, corner: tuple[int, int]) -> dict[str, Any]:
    clean = shot.centers[shot.lead_in : len(shot.centers) - shot.lead_out] + np.array(corner)
    described = shot.description
    return {
        "start": shot.start,
        "stop": shot.stop,
        "caption": shot.caption,
        "color": described.color,
        "shape": described.shape,
        "manner": described.manner,
        "direction": described.direction,
        "size": described.size,
        "speed": described.speed,
        "ground": shot.ground,
        "radius_px": round(shot.radius_px, 3),
        "centers_px": [[round(float(x), 3), round(float(y), 3)] for x, y in clean],
    }


def _garbage(film: Film) -> bytes:
    return np.random.default_rng(list(film.name.encode())).bytes(20_000)


def _replace(file: Path, content: bytes) -> None:
    staged = file.with_name(f".{file.name}.part")
    staged.write_bytes(content)
    staged.replace(file)
