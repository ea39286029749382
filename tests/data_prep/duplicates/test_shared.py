"""Real videos: every near duplicate is found, and nothing else."""

import json

import pytest

from data_prep.decode import Undecodable, open_source
from data_prep.duplicates.fingerprint import Fingerprinter
from data_prep.duplicates.matches import between
from data_prep.duplicates.settings import PerceptualSettings

# What no perceptual hash is meant to join: a narrow part of the picture, another orientation, a pan over one frame of
# the original, and a file whose pictures are mostly garbage.
NOT_COPIES = ("derived_portrait.mp4", "derived_rot90.mp4", "broken_bitflips.mp4", "motion_")


def fingerprint(file):
    try:
        opened, seen = open_source(file), Fingerprinter()
        with opened.container:
            for pts, frame in opened.frames():
                seen.look(frame, float((pts - opened.first_pts) * opened.time_base), opened.rotation)
    except Undecodable:
        return None
    return seen.result() if opened.first_pts is not None else None


@pytest.fixture(scope="module")
def records(shared_data):
    """What is known of each file, by its name."""
    rows = [json.loads(line) for line in (shared_data / "captions.jsonl").read_text().splitlines()]
    return {row["file"].split("/")[-1]: row for row in rows}


def footage(records, name):
    """What a file shows: its group, or that of what it was made from; ffmpeg's test picture is one thing everywhere."""
    row = records[name]
    if "test-pattern" in row["tags"]:
        return "test pattern"
    if "content_group" in row:
        return row["content_group"]
    return footage(records, row["derived_from"]) if row.get("derived_from") in records else name


def found_among(shared_data, names):
    made = {name: fingerprint(shared_data / "videos" / name) for name in names}
    prints = {name: print_ for name, print_ in made.items() if print_ is not None}
    return set(between(list(prints), list(prints), prints.__getitem__, PerceptualSettings())), prints


def expected(records, names):
    """Pairs that must be found: one group says that two files show the same, or one was made from the other."""
    good = [name for name in names if not name.startswith(NOT_COPIES) and footage(records, name) != "test pattern"]
    return {(a, b) for a in good for b in good if a < b and footage(records, a) == footage(records, b)}


def test_the_group_of_copies_is_found_among_takes_of_one_signer(shared_data, records):
    names = [name for name in records if name.startswith(("nd_", "vpf_", "intel__")) and "detection" not in name]
    pairs, _ = found_among(shared_data, names)
    group = sorted(name for name, row in records.items() if row.get("content_group") == "dachshund")
    assert len(group) == 7
    assert pairs == {(a, b) for a in group for b in group if a < b}


@pytest.mark.slow
def test_all_groups_are_found_and_no_false_pair(shared_data, records):
    pairs, prints = found_among(shared_data, list(records))
    assert expected(records, sorted(prints)) <= pairs
    assert {pair for pair in pairs if footage(records, pair[0]) != footage(records, pair[1])} == set()
