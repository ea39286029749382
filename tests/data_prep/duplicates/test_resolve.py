"""Laws of duplicates in `prepare`: the best copy stays, nothing is done twice, and no footage is on both sides."""

import json
import shutil

import numpy as np
import pytest
import torch

from data_prep.duplicates import resolve, semantic
from data_prep.duplicates.settings import DuplicateSettings, PerceptualSettings, SemanticSettings
from data_prep.prepare import prepare
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Tables
from data_prep.units import dead_row, write
from tests.data_prep.runners import InProcess
from vidgen_core.errors import VidgenError

LOOSE = Select(need_caption=False, min_keep_area=0.3)
SETTINGS = DataSettings(select=LOOSE, held_out_share=0.4)


COPIES = ("larger", "mirrored", "letterboxed", "trimmed")


@pytest.fixture(scope="module")
def videos(originals, copies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for file in [*originals[:2], *(copies[name] for name in COPIES)]:
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    tables = Tables(tmp_path_factory.mktemp("tables"))
    return prepare(videos, tables, SETTINGS, InProcess()), tables


@pytest.fixture
def tables(prepared, tmp_path):
    """A copy of the prepared tables."""
    shutil.copytree(prepared[1].root, tmp_path / "tables")
    return Tables(tmp_path / "tables")


def changed(**duplicates):
    return SETTINGS.model_copy(update={"duplicates": DuplicateSettings(**duplicates)})


def rows(tables, name):
    return sorted((tuple(row.values()) for row in tables.read(name).to_pylist()), key=repr)


def uris(tables, name):
    named = {row["source_id"]: row["uri"] for row in tables.read("sources").to_pylist()}
    return {named[row["source_id"]] for row in tables.read(name).to_pylist()}


def test_only_the_best_copy_has_clips_and_the_others_name_it(prepared, originals):
    done, tables = prepared
    assert uris(tables, "clips") == {"larger.mp4", "film-1.mp4"}
    dropped = [row for row in tables.read("rejects").to_pylist() if row["reason"] == "near_duplicate"]
    assert all("larger.mp4" in row["message"] and row["stage"] == "duplicates" for row in dropped)
    assert done.reasons["near_duplicate"] == len(dropped)
    assert {row.name: row.rows for row in done.funnel}["duplicate groups"] == 1


def test_the_group_lists_its_copies_from_the_best(prepared):
    groups = sorted(prepared[1].read("duplicate_groups").to_pylist(), key=lambda row: row["place"])
    assert groups[0]["uri"] == "larger.mp4"
    assert {row["uri"] for row in groups} == {"film-0.mp4", *(f"{name}.mp4" for name in COPIES)}
    assert len({row["split"] for row in groups}) == 1


def test_adding_sources_one_by_one_analyses_each_once_and_ends_with_the_same_tables(videos, prepared, tmp_path):
    folder, tables = tmp_path / "videos", Tables(tmp_path / "tables")
    folder.mkdir()
    files = sorted(videos.iterdir(), key=lambda file: file.name[::-1])
    for some in (files[:3], files[3:4], files[4:]):
        for file in some:
            shutil.copy(file, folder)
        runner = InProcess()
        done = prepare(folder, tables, SETTINGS, runner)
        assert {file.name for file in some} <= set(runner.ran)
    assert done.release.digest == prepared[0].release.digest
    for name in ("matches", "duplicate_groups"):
        assert rows(tables, name) == rows(prepared[1], name)


def test_a_copy_that_is_gone_makes_room_for_the_next_best(videos, tables, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(videos, folder)
    (folder / "larger.mp4").unlink()
    prepare(folder, tables, SETTINGS, InProcess())
    assert "larger.mp4" not in uris(tables, "clips")
    assert len(uris(tables, "clips")) == 2
    shutil.copy(videos / "larger.mp4", folder)
    prepare(folder, tables, SETTINGS, InProcess())
    assert uris(tables, "clips") == {"larger.mp4", "film-1.mp4"}


def test_switched_off_everything_is_kept_and_nothing_is_analyzed_to_switch_it_on(videos, prepared, tables):
    done = prepare(videos, tables, changed(perceptual=None), InProcess())
    assert "near_duplicate" not in done.reasons
    assert len(uris(tables, "clips")) == len(list(videos.iterdir()))
    runner = InProcess()
    again = prepare(videos, tables, SETTINGS, runner)
    assert len(runner.ran) == len(set(runner.ran)) <= 2  # what changed sides is cut again
    assert again.release.digest == prepared[0].release.digest


@pytest.mark.parametrize("change", [{"min_similarity": 1.0}, {"min_change_similarity": 1.0}, {"min_covered": 1.0}])
def test_each_threshold_is_read(prepared, videos, tables, change):
    done = prepare(videos, tables, changed(perceptual=PerceptualSettings(**change)), InProcess())
    assert done.reasons.get("near_duplicate", 0) < prepared[0].reasons["near_duplicate"]


@pytest.fixture
def all_kept(monkeypatch):
    """Groups as always, and no copy dropped."""
    monkeypatch.setattr(resolve, "drop_copies", lambda spans, *_: (list(spans), []))


def shared_out(share):
    return SETTINGS.model_copy(update={"held_out_share": share})


@pytest.mark.usefixtures("all_kept")
def test_no_footage_is_on_both_sides_for_any_share(videos, tables):
    for share in (0.2, 0.5, 0.8):
        prepare(videos, tables, shared_out(share), InProcess())
        grouped = {row["source_id"] for row in tables.read("duplicate_groups").to_pylist()}
        clips = [row for row in tables.read("clips").to_pylist() if row["source_id"] in grouped]
        assert {row["source_id"] for row in clips} == grouped
        assert len({row["split"] for row in clips}) == 1


@pytest.mark.usefixtures("all_kept")
def test_a_leak_fails_the_run_and_names_the_pair(videos, tables, monkeypatch):
    monkeypatch.setattr(resolve, "groups_of", lambda sources, pairs: {name: name for name in sources})
    with pytest.raises(VidgenError, match=r"trained on and held out: .*mp4 and .*mp4"):
        for share in (0.3, 0.5, 0.7):
            prepare(videos, tables, shared_out(share), InProcess())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    open_clip = pytest.importorskip("open_clip", reason="the extra vidgen[captions] is not installed")
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "clip_tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("clip_tiny")
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.2)  # open_clip leaves some of them as memory happens to be
    torch.save(model.state_dict(), folder / "clip.pt")
    return SemanticSettings(model="clip_tiny", weights=str(folder / "clip.pt"), min_cosine=0.9995)


def test_clips_that_are_alike_to_the_encoder_are_dropped(videos, weights, tables):
    done = prepare(videos, tables, changed(perceptual=None, semantic=weights), InProcess())
    named = {row["source_id"]: row["uri"] for row in tables.read("sources").to_pylist()}
    rows = tables.read("picture_embeddings").to_pylist()
    vectors = {row["clip_id"]: np.frombuffer(row["embedding"], "<f4") for row in rows}
    where = {row["clip_id"]: named[row["source_id"]] for row in rows}
    dropped = {row["clip_id"] for row in tables.read("rejects").to_pylist() if row["reason"] == "semantic_duplicate"}
    assert done.reasons["semantic_duplicate"] == len(dropped) > 0
    for clip, vector in vectors.items():
        others = [other for other in vectors if where[other] != where[clip] and other not in dropped]
        near = [other for other in others if vector @ vectors[other] >= weights.min_cosine]
        assert bool(near) == (clip in dropped)


def test_another_cosine_embeds_nothing_again(videos, weights, tables):
    prepare(videos, tables, changed(semantic=weights), InProcess())
    before = tables.version("picture_embeddings")
    prepare(videos, tables, changed(semantic=weights.model_copy(update={"min_cosine": 1.0})), InProcess())
    assert tables.version("picture_embeddings") == before


def test_another_choice_of_clips_embeds_the_new_ones_alone(videos, weights, tables, monkeypatch):
    seen = []
    every = semantic.pictures
    monkeypatch.setattr(
        semantic, "pictures", lambda file, spans, **more: seen.extend(spans) or every(file, spans, **more)
    )
    everything = changed(perceptual=None, semantic=weights)
    first = prepare(videos, tables, everything, InProcess())
    motions = sorted(row["motion"] for row in tables.read("spans").to_pylist())
    strict = LOOSE.model_copy(update={"min_motion": motions[2]})
    del seen[:]
    prepare(videos, tables, everything.model_copy(update={"select": strict}), InProcess())
    assert seen == []
    assert len(tables.read("picture_embeddings")) == len(motions) - 2
    again = prepare(videos, tables, everything, InProcess())
    assert len(seen) == 2
    assert again.release.digest == first.release.digest


def test_without_weights_what_they_left_goes_also_their_failures(videos, prepared, tables):
    source = tables.read("sources", ["source_id"])["source_id"][0].as_py()
    row = dead_row(Source(source, "a.mp4", videos / "a.mp4"), "too_large", "", 1, "embed")
    for name, rows in (("failures/embed", [row]), ("picture_embeddings", [])):
        tables.commit(name, SCHEMAS["rejects" if rows else name], [write(tables, name, "unit", rows)])
    done = prepare(videos, tables, SETTINGS, InProcess())
    assert "too_large" not in done.reasons
    assert done.release.digest == prepared[0].release.digest
    assert not tables.committed("failures/embed") | tables.committed("picture_embeddings")


def test_weights_of_another_model_are_a_sentence(videos, weights, tables):
    wrong = weights.model_copy(update={"model": "ViT-B-32"})
    with pytest.raises(VidgenError, match="cannot be read as a ViT-B-32"):
        prepare(videos, tables, changed(semantic=wrong), InProcess())
