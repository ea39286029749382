"""A clip as a file that players open: its pictures as they are in `clips`, its sound as it is in `audio`."""

import io
from pathlib import Path

import av
import pyarrow.compute as pc

from data_prep.audio import AUDIO
from data_prep.lineage import find
from data_prep.tables import Tables
from vidgen_core.errors import VidgenError
from vidgen_core.outputs import check_out

__all__ = ["export_clip"]


def export_clip(tables: Tables, clip: str, out: Path) -> str:
    """Write a clip of the current tables; nothing is encoded again. Returns what was written, in words.

    Raises:
        VidgenError: There is no such clip, it was not kept, or the file cannot be written there.

    """
    check_out(out, (".mp4", ".mkv"), "A clip")
    named = find(tables, clip)
    if named.column != "clip_id":
        raise VidgenError("This is a source, not a clip", got=clip, move="vidgen explain SOURCE lists its clips")
    media = _value(tables, "clips", "media", named.value)
    if media is None:
        raise VidgenError("This clip was not kept", got=named.value, move="vidgen explain CLIP says why")
    sound = _value(tables, AUDIO, "audio", named.value)
    _mux([media, *([sound] if sound is not None else [])], out)
    return f"{out}: clip {named.value}, {'with' if sound is not None else 'without'} sound"


def _value(tables: Tables, name: str, column: str, clip_id: str) -> bytes | None:
    for file in tables.holding(name, "clip_id", clip_id):
        rows = tables.part(name, file.stem.removeprefix("part-"), ["clip_id", column])
        return rows.filter(pc.equal(rows["clip_id"], clip_id))[column][0].as_py()
    return None


def _mux(parts: list[bytes], out: Path) -> None:
    """The streams of some files side by side, packet by packet."""
    with av.open(str(out), "w") as container:
        opened = [av.open(io.BytesIO(part), "r") for part in parts]
        places = {one: container.add_stream_from_template(one.streams[0]) for one in opened}
        for one, place in places.items():
            for packet in one.demux(one.streams[0]):
                if packet.dts is not None:
                    packet.stream = place
                    container.mux(packet)
            one.close()
