"""Seconds to decide again over a million spans: read them, judge, and find what would be cut. Nothing is decoded.

Run it with `python -m tests.bench.bench_rethreshold`; it writes .bench/rethreshold.json.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.cutting import with_media_keys
from data_prep.losses import dropped_spans
from data_prep.parts import write_part
from data_prep.prepare import CARRIED, candidates
from data_prep.select import Select, judge
from data_prep.settings import DataSettings
from data_prep.tables import SCHEMAS, Part, Tables
from tests.bench.interleave import report, summary

SPANS, SOURCES, ROUNDS = 1_000_000, 1_000, 5


def main() -> None:
    """Measure and write."""
    report("rethreshold", measure())


def measure() -> dict[str, Any]:
    """Seconds of all, and of each part; `cpu_s` are CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(Path(folder))
        _fill(tables)
        # Thresholds that no round has seen.
        rounds = [_seconds(tables, 0.1 + 0.1 * number) for number in range(ROUNDS + 1)][1:]
    parts = {name: summary([one[name] for one in rounds]) for name in rounds[0]}
    told = {"spans": SPANS, "files": SOURCES, "cpu_s": parts.pop("cpu"), "parts_s": parts}
    return {"rethreshold_1m_s": parts.pop("all"), "rethreshold": told}


def _seconds(tables: Tables, least: float) -> dict[str, float]:
    marks, cpu = [time.perf_counter()], time.process_time()
    spans, select = candidates(tables, DataSettings(select=Select(min_motion=least)), wait=True, columns=CARRIED)
    marks.append(time.perf_counter())
    verdicts = judge(spans, select)
    marks.append(time.perf_counter())
    dropped_spans(spans, verdicts)
    marks.append(time.perf_counter())
    with_media_keys(spans.select(CARRIED).filter(pa.array(verdicts.kept)))
    marks.append(time.perf_counter())
    tables.release(["sources", "spans"])
    marks.append(time.perf_counter())
    parts = dict(zip(("read", "judge", "rejects", "keys", "release"), np.diff(marks).tolist(), strict=True))
    return {**parts, "all": sum(parts.values()), "cpu": time.process_time() - cpu}


def _fill(tables: Tables) -> None:
    rng, each = np.random.default_rng(0), SPANS // SOURCES
    known = {"bytes": 10**7, "width": 640, "height": 360, "rotation": 0, "sar": "1", "frames": 10**5, "duration_s": 4e3}
    for number in range(SOURCES):
        source = f"{number:032x}"
        spans = {
            **{name: pa.nulls(each, SCHEMAS["spans"].field(name).type) for name in SCHEMAS["spans"].names},
            "clip_id": [f"{number * each + place:024x}" for place in range(each)],
            "source_id": [source] * each, "uri": [f"{source}.mp4"] * each, "caption": ["a red square moves"] * each,
            "distinct_frames": np.full(each, 9), "motion": rng.random(each), "brightness": 255 * rng.random(each),
            "sharpness": 100 * rng.random(each), "keep_area": np.ones(each),
            **dict.fromkeys(("crop_x", "crop_y", "crop_w", "crop_h"), np.full(each, 360)),
        }  # fmt: skip
        rows = {"spans": pa.table(spans).cast(SCHEMAS["spans"])}
        row = {**dict.fromkeys(SCHEMAS["sources"].names), "source_id": source, **known}
        rows["sources"] = pa.Table.from_pylist([row], SCHEMAS["sources"])
        for name, table in rows.items():
            write_part(tables.part_file(name, source), table)
    for name in ("spans", "sources"):
        files = sorted((tables.root / name).glob("*.parquet"))
        rows_each = each if name == "spans" else 1
        tables.commit(name, SCHEMAS[name], [Part(file.stem.removeprefix("part-"), file, rows_each) for file in files])


if __name__ == "__main__":
    main()
