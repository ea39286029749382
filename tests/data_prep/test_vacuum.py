"""Laws of vacuum: what is kept reads the same, and nothing else is left."""

import os
import random

import pyarrow as pa
import pytest

from data_prep import row_digests
from data_prep.parts import write_part
from data_prep.tables import Part, Tables
from data_prep.vacuum import vacuum

SCHEMA = pa.schema([("clip_id", pa.string()), ("media", pa.binary())])
NAMES = ("clips", "latents/abc")


def part(tables, name, unit):
    file = tables.part_file(name, unit)
    write_part(file, pa.Table.from_pylist([{"clip_id": unit, "media": unit.encode() * 99}], SCHEMA))
    return Part(unit, file, 1)


def reads_as_pinned(tables, release):
    for name, state in release.tables.items():
        assert row_digests.of_files(tables.files(name, state.version)) == state.digest


@pytest.fixture(params=range(2))
def history(tmp_path, request):
    """Tables whose units came, went and came back, the releases on the way, and what a killed run left."""
    rng, tables, releases = random.Random(request.param), Tables(tmp_path), []
    for _ in range(8):
        for name in NAMES:
            there, units = tables.committed(name), [f"{number:02d}" for number in range(10)]
            new = rng.sample([unit for unit in units if unit not in there], k=2)
            gone = rng.sample(sorted(there), k=min(len(there), rng.randrange(3)))
            tables.commit(name, SCHEMA, [part(tables, name, unit) for unit in new], drop=gone)
            if len(there) > 6:
                tables.commit(name, SCHEMA, [], drop=sorted(there)[:4])
        if rng.random() < 0.5:
            releases.append(tables.release(NAMES))
    part(tables, "clips", "orphan")
    (tables.root / "clips" / "part-x.1.tmp").write_bytes(b"half")
    return tables, releases


def test_kept_releases_read_the_same_and_nothing_else_is_left(history):
    tables, releases = history
    kept, now = releases[::2], tables.release(NAMES)
    foreseen = vacuum(tables, kept, keep_days=0, dry_run=True)
    before = {file: file.stat().st_size for name in NAMES for file in tables.stored(name)}
    assert vacuum(tables, kept, keep_days=0) == foreseen
    after = {file for name in NAMES for file in tables.stored(name)}
    assert {one.table: one.file_bytes for one in foreseen} == {
        name: sum(
            size for file, size in before.items() if file not in after and file.is_relative_to(tables.root / name)
        )
        for name in NAMES
    }
    for release in (*kept, now):
        reads_as_pinned(tables, release)
    pinned = [(name, state.version) for release in (*kept, now) for name, state in release.tables.items()]
    assert after == {file for name, version in pinned for file in tables.files(name, version)}
    assert not any(one.files for one in vacuum(tables, kept, keep_days=0))
    assert tables.release(NAMES) == now


def test_what_left_lately_stays_and_what_a_killed_run_left_goes_when_it_is_old(history):
    tables, releases = history
    stored = {file for name in NAMES for file in tables.stored(name)}
    vacuum(tables, [], keep_days=1)
    assert {file for name in NAMES for file in tables.stored(name)} == stored
    for release in releases:
        reads_as_pinned(tables, release)
    orphans = [tables.part_file("clips", "orphan"), tables.root / "clips" / "part-x.1.tmp"]
    for orphan in orphans:
        os.utime(orphan, (0, 0))
    vacuum(tables, [], keep_days=1)
    assert stored - {file for name in NAMES for file in tables.stored(name)} == set(orphans)


def test_a_table_whose_log_does_not_tell_what_is_pinned_is_left_alone(history):
    tables, releases = history
    state = releases[0].tables["clips"].model_copy(update={"version": 10_000})
    unknown = releases[0].model_copy(update={"tables": {"clips": state}})
    freed = {one.table: one for one in vacuum(tables, [unknown], keep_days=0)}
    assert (freed["clips"].files, bool(freed["clips"].note)) == (0, True)
    assert freed["latents/abc"].files > 0
