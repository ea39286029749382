"""Kept shots as video files: whole, at the size and the times of their source, upright and without black bars.

A clip in the tables has a recipe's shape and rate; this is for whoever wants the footage itself. A shot is exported
when one of its spans was kept. Frames go from the decoder to the encoder as they are; only those that must be turned or
cropped pass a filter. Sound is left out.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext

from data_prep.decode import Opened, Undecodable, open_source
from data_prep.rights import RIGHTS
from data_prep.run import Failure, Runner
from data_prep.sources import Source
from data_prep.sql import ask
from data_prep.tables import Tables
from data_prep.units import Progress
from vidgen_core import digests
from vidgen_core.frozen import Frozen

__all__ = ["MANIFEST", "PRESETS", "Encoding", "Exported", "Shot", "encode_shots", "export", "kept_shots"]

VERSION = 1
MANIFEST = "shots.jsonl"
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_ENCODABLE = ("yuv420p", "yuvj420p")
_TURNS: Mapping[int, tuple[tuple[str, str], ...]] = {
    0: (), 90: (("transpose", "cclock"),), 180: (("hflip", ""), ("vflip", "")), 270: (("transpose", "clock"),),
}  # fmt: skip


class Encoding(Frozen):
    """How x264 is set.

    Args:
        crf: Rate factor, 0 (lossless) to 51; 6 more is about half the size.
        preset: x264's trade of time for size. At equal likeness to the source, `superfast` files are about twice as
            large as `veryfast` ones and take three quarters of its time to make.
        tune: "fastdecode" leaves out what slows reading down: these files are made once and read in every epoch.

    """

    crf: int = 23
    preset: str = "superfast"
    tune: str = "fastdecode"

    @property
    def options(self) -> dict[str, str]:
        """For the encoder."""
        return {"crf": str(self.crf), "preset": self.preset, "tune": self.tune}


class Shot(NamedTuple):
    """A shot to export.

    Attributes:
        source_id: Whose it is.
        number: Its place in the source.
        start_pts, stop_pts: Times of its first and its last frame, in ticks of the source.
        box: What to keep, (x, y, width, height) in upright source pixels: all that one of its kept spans keeps.
        clip_ids: Its kept spans, in order.

    """

    source_id: str
    number: int
    start_pts: int
    stop_pts: int
    box: tuple[int, int, int, int]
    clip_ids: tuple[str, ...]

    def file_name(self, encoding: Encoding) -> str:
        """Name of its file: a digest of all that the bytes in it depend on."""
        made = [VERSION, self.source_id, self.start_pts, self.stop_pts, self.box, encoding.model_dump(mode="json")]
        return f"{digests.of_value(made, 24)}.mp4"


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        written: Files that it wrote.
        reused: Files that were there.
        lost: File of a source, or its id when there is no such file -> why its shots are missing.

    """

    written: int
    reused: int
    lost: dict[str, str]


class _Task(NamedTuple):
    source: Source
    shots: tuple[Shot, ...]


def kept_shots(tables: Tables) -> list[Shot]:
    """Shots of which a span was kept, by source and time."""
    spans = tables.read(
        "spans",
        ["clip_id", "source_id", "shot", "start_pts", "shot_start_pts", "shot_stop_pts",
         "crop_x", "crop_y", "crop_w", "crop_h"],
    )  # fmt: skip
    rows = ask(
        "SELECT source_id, shot, min(shot_start_pts) AS first, max(shot_stop_pts) AS last, min(crop_x) AS x,"
        " min(crop_y) AS y, max(crop_x + crop_w) AS x1, max(crop_y + crop_h) AS y1,"
        " list(clip_id ORDER BY start_pts) AS ids FROM spans SEMI JOIN clips USING (clip_id)"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        spans=spans,
        clips=tables.read("clips", ["clip_id"]),
    ).to_pylist()
    return [
        Shot(row["source_id"], row["shot"], row["first"], row["last"],
             (row["x"], row["y"], row["x1"] - row["x"], row["y1"] - row["y"]), tuple(row["ids"]))
        for row in rows
    ]  # fmt: skip


def export(  # noqa: PLR0913 - what, where to, how and by whom
    tables: Tables,
    sources: Sequence[Source],
    out: Path,
    *,
    encoding: Encoding,
    runner: Runner,
    deadline_s: float = 3600.0,
    progress: Progress = lambda *_: None,
) -> Exported:
    """Write a file for each kept shot that has none, and `shots.jsonl` with a line for each that has one.

    Args:
        tables: What was kept.
        sources: Where the sources are now.
        out: A folder; files in it that are of no kept shot stay.
        encoding: How x264 is set.
        runner: Who does it.
        deadline_s: A source that takes longer is given up.
        progress: Told (done, total) in sources.

    """
    shots = kept_shots(tables)
    files = {shot: out / shot.file_name(encoding) for shot in shots}
    todo = [shot for shot in shots if not files[shot].exists()]
    at = {source.source_id: source for source in sources}
    wanted: dict[str, list[Shot]] = {}
    for shot in todo:
        wanted.setdefault(shot.source_id, []).append(shot)
    lost = {source: "There is no file with these bytes any more" for source in wanted if source not in at}
    tasks = [_Task(at[source], tuple(some)) for source, some in wanted.items() if source in at]
    work = partial(_export_source, out=out, encoding=encoding)
    for done, (task, result) in enumerate(runner.map(work, tasks, deadline_s=deadline_s), start=1):
        if isinstance(result, Failure):
            lost[task.source.uri] = result.message
        elif result:
            lost[task.source.uri] = result
        progress(done, len(tasks))
    there = [shot for shot in shots if files[shot].exists()]
    lines = [json.dumps(row, ensure_ascii=False) for row in _manifest(tables, there, files)]
    (out / MANIFEST).write_text("".join(f"{line}\n" for line in lines))
    return Exported(sum(shot in there for shot in todo), len(shots) - len(todo), lost)


def encode_shots(file: Path, shots: Sequence[Shot], out: Path, encoding: Encoding) -> int:
    """Write the shots of one source, in one pass over it; how many frames they have.

    Raises:
        Undecodable: The source cannot be opened.

    """
    waiting, frames = sorted(shots, key=lambda shot: shot.start_pts, reverse=True), 0
    opened = open_source(file)
    writer: _Writer | None = None
    with opened.container:
        for pts, frame in opened.frames():
            if writer is None and waiting and pts >= waiting[-1].start_pts:
                writer = _Writer(out / waiting[-1].file_name(encoding), opened, frame, waiting[-1], encoding)
            if writer is not None:
                frames += writer.put(frame, pts)
                if pts >= waiting[-1].stop_pts:
                    waiting.pop()
                    writer.close()
                    writer = None
            if not waiting:
                break
    if writer is not None:
        # The file ends before it did when it was analyzed; the frames that came are worth keeping.
        writer.close()
    return frames


class _Writer:
    """One shot's file, which gets its name when it is whole."""

    def __init__(self, file: Path, opened: Opened, first: av.VideoFrame, shot: Shot, encoding: Encoding) -> None:
        self._file, self._fresh = file, file.with_name(f".{file.stem}.{os.getpid()}.mp4")
        self._size, self._start_pts, self._time_base = (first.width, first.height), shot.start_pts, opened.time_base
        self._graph = _graph(first, opened, shot.box)
        self._container = av.open(str(self._fresh), "w", format="mp4")
        rate = opened.stream.average_rate or Fraction(25)
        stream = self._container.add_stream("libx264", rate=rate, options=encoding.options)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        _describe(stream.codec_context, first, shot.box, opened)

    def put(self, frame: av.VideoFrame, pts: int) -> int:
        """Encode a frame; one of another size than the first is passed over, as the analysis does."""
        if (frame.width, frame.height) != self._size:
            return 0
        frame.pts, frame.time_base = pts - self._start_pts, self._time_base
        if self._graph is not None:
            self._graph.vpush(frame)
            frame = self._graph.vpull()
        frame.pict_type = av.video.frame.PictureType.NONE
        self._container.mux(self._stream.encode(frame))
        return 1

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._fresh.replace(self._file)


def _describe(codec: VideoCodecContext, first: av.VideoFrame, box: tuple[int, int, int, int], opened: Opened) -> None:
    """Tell the encoder the size, the times and the colors of what it will get."""
    codec.width, codec.height = box[2] & ~1, box[3] & ~1
    codec.pix_fmt = first.format.name if first.format.name in _ENCODABLE else "yuv420p"
    codec.time_base, codec.sample_aspect_ratio = opened.time_base, opened.upright_sar
    codec.color_range, codec.colorspace = first.color_range, first.colorspace
    codec.color_primaries, codec.color_trc = first.color_primaries, first.color_trc
    codec.thread_count = 1


def _graph(first: av.VideoFrame, opened: Opened, box: tuple[int, int, int, int]) -> Graph | None:
    """What turns, crops and converts the frames; None when there is nothing to do."""
    x, y, width, height = box[0], box[1], box[2] & ~1, box[3] & ~1
    turn = opened.rotation % 360
    if not turn and (width, height) == (first.width, first.height) and first.format.name in _ENCODABLE:
        return None
    graph = Graph()
    graph.threads = 1
    kept = first.format.name if first.format.name in _ENCODABLE else "yuv420p"
    crop = ("crop", f"{width}:{height}:{x}:{y}:exact=1")
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=opened.time_base)
    made = [graph.add(name, how) for name, how in (*_TURNS[turn], crop, ("format", kept))]
    graph.link_nodes(source, *made, graph.add("buffersink")).configure()
    return graph


def _export_source(task: _Task, *, out: Path, encoding: Encoding) -> str:
    """Export a source's shots; why it cannot be done, or nothing."""
    try:
        encode_shots(task.source.file, task.shots, out, encoding)
    except (Undecodable, av.error.FFmpegError) as error:
        return str(error)
    return ""


def _manifest(tables: Tables, shots: Sequence[Shot], files: Mapping[Shot, Path]) -> Iterator[dict[str, Any]]:
    """A line for each shot: its file, where it is from, and what is said of its clips."""
    sources = {row["source_id"]: row for row in tables.read("sources", ["source_id", "uri", "time_base"]).to_pylist()}
    captions: dict[str, list[str]] = {}
    for row in tables.read("captions", ["clip_id", "caption", "rank"]).sort_by("rank").to_pylist():
        captions.setdefault(row["clip_id"], []).append(row["caption"])
    rights = {row["source_id"]: row for row in tables.read(RIGHTS).to_pylist()}
    for shot in shots:
        source, file = sources[shot.source_id], files[shot]
        said = rights.get(shot.source_id, {})
        yield {
            "file": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "source": source["uri"],
            "source_id": shot.source_id,
            **{name: said.get(name) for name in ("license", "attribution", "url")},
            "shot": shot.number,
            "start_pts": shot.start_pts,
            "stop_pts": shot.stop_pts,
            "time_base": source["time_base"],
            "box": shot.box,
            "clips": [{"clip_id": clip, "captions": captions.get(clip, [])} for clip in shot.clip_ids],
        }
