"""Laws of scoring by models in `prepare`: null without weights, nothing done twice, and only what changed done anew."""

import numpy as np
import pytest

from data_prep.decode import take_decoded
from data_prep.prepare import prepare
from data_prep.retry import ask_again
from data_prep.run import Failure
from data_prep.samples import make
from data_prep.score_settings import OnnxSettings, ScoreSettings
from data_prep.scoring import with_scores, without_weights
from data_prep.select import Select
from data_prep.settings import DataSettings
from data_prep.tables import SCHEMAS, Tables
from vidgen_core import discovery
from vidgen_core.errors import VidgenError

pytest.importorskip("onnxruntime", reason="the extra vidgen[scores] is not installed")


class Here:
    """Runs tasks in this process and counts them by their function; those named in `crash` fail.

    `stop_after` tasks of scoring it is interrupted.
    """

    def __init__(self, crash=(), stop_after=99, reason="crashed"):
        self.ran, self.crash, self.stop_after, self.reason = [], crash, stop_after, reason

    def map(self, function, items, *, deadline_s=0.0):
        for item in items:
            if self.ran.count("_score_source") >= self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(function.func.__name__)
            failed = item.source.uri in self.crash and self.ran[-1] == "_score_source"
            yield item, Failure(self.reason, "", 2) if failed else function(item)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make(folder, count=2, seed=3)
    return folder


@pytest.fixture(scope="module")
def detectors(onnx_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def write(level):
        file = folder / f"{level}.onnx"
        file.write_bytes(onnx_files.bright_detector(level=level))
        return OnnxSettings(weights=str(file))

    outputs = {f"{kind}_{stride}": np.zeros((1, (64 // stride) ** 2, sides), np.float32)
               for stride in (8, 16, 32) for kind, sides in (("cls", 1), ("obj", 1), ("bbox", 4))}  # fmt: skip
    (folder / "faces.onnx").write_bytes(onnx_files.constant(outputs, 64))
    return write, OnnxSettings(weights=str(folder / "faces.onnx"))


def settings(**scores):
    return DataSettings(scores=ScoreSettings(**scores))


def spans(tables):
    scored = with_scores(tables.read("spans"), tables.read("scores"))
    return sorted(scored.to_pylist(), key=lambda span: span["clip_id"])


@pytest.fixture(scope="module")
def plain(videos, tmp_path_factory):
    tables = Tables(tmp_path_factory.mktemp("plain"))
    return prepare(videos, tables, settings(), Here()), tables


def test_each_scorer_has_its_settings_and_columns_of_its_own():
    names = discovery.names("data_prep.scorers")
    assert set(names) == set(ScoreSettings.model_fields) - {"stills"}
    scorers = [discovery.load("data_prep.scorers", name) for name in names]
    columns = [column for scorer in scorers for column in scorer.WRITES]
    assert len({*columns, *SCHEMAS["spans"].names}) == len(columns) + len(SCHEMAS["spans"].names)
    for scorer in scorers:
        assert scorer.VERSION >= 1
        assert isinstance(scorer.READS_CAPTION, bool)


def test_without_weights_scores_are_null_and_the_run_says_so_once(plain):
    done, tables = plain
    columns = [
        column
        for name in without_weights(ScoreSettings())
        for column in discovery.load("data_prep.scorers", name).WRITES
    ]
    assert columns
    assert all(span[column] is None for span in spans(tables) for column in columns)
    notes = [row.note for row in done.funnel if "weights" in row.note]
    assert len(notes) == 1
    assert all(name in notes[0] for name in without_weights(ScoreSettings()))
    assert not tables.exists("scores")


def test_scores_fill_their_columns_in_one_more_pass_and_are_not_made_twice(videos, plain, detectors, tmp_path):
    tables, scored = Tables(tmp_path), settings(detected_text=detectors[0](0.0), faces=detectors[1])
    runner = Here()
    take_decoded()
    done = prepare(videos, tables, scored, runner)
    assert runner.ran.count("_score_source") == 2
    assert done.decoded_per_source_frame["score"] <= 1
    for span, bare in zip(spans(tables), spans(plain[1]), strict=True):
        assert 0 <= span["detected_text_area"] <= 1
        assert (span["faces"], span["face_area"]) == (0.0, 0.0)
        assert span["aesthetic"] is None
        assert {**span, "detected_text_area": None, "faces": None, "face_area": None} == bare
    again = Here()
    assert prepare(videos, tables, scored, again).release == done.release
    assert again.ran == []


def test_another_model_runs_alone_and_leaving_it_out_gives_the_release_without_it(videos, plain, detectors, tmp_path):
    write, face_model = detectors
    tables = Tables(tmp_path)
    first = prepare(videos, tables, settings(detected_text=write(0.0), faces=face_model), Here())
    of_faces = {row["clip_id"] for row in tables.read("scores").to_pylist() if row["scorer"] == "faces"}
    kept = tables.committed("scores")
    runner = Here()
    prepare(videos, tables, settings(detected_text=write(1.0), faces=face_model), runner)
    assert runner.ran == ["_score_source"] * 2
    assert len(tables.committed("scores") & kept) == 2
    assert {row["clip_id"] for row in tables.read("scores").to_pylist() if row["scorer"] == "faces"} == of_faces
    back = prepare(videos, tables, settings(detected_text=write(0.0), faces=face_model), Here())
    assert back.release.digest == first.release.digest
    bare = prepare(videos, tables, settings(), Here())
    assert bare.release.digest == plain[0].release.digest
    assert len(tables.read("scores")) == 0


def test_a_rule_drops_by_a_models_score_and_a_rule_without_its_weights_is_refused(videos, detectors, tmp_path):
    # Everything is marked as text by this model, nothing by the other.
    strict = settings(detected_text=detectors[0](-99.0)).model_copy(
        update={"select": Select(max_detected_text_area=0.5)}
    )
    with pytest.raises(VidgenError, match="by the rule max_detected_text_area"):
        prepare(videos, Tables(tmp_path), strict, Here())
    loose = strict.model_copy(update={"scores": ScoreSettings(detected_text=detectors[0](99.0))})
    assert prepare(videos, Tables(tmp_path), loose, Here()).reasons.get("max_detected_text_area", 0) == 0
    bare = strict.model_copy(update={"scores": ScoreSettings()})
    with pytest.raises(VidgenError, match=r"data\.scores\.detected_text\.weights"):
        prepare(videos, Tables(tmp_path / "other"), bare, Here())


def test_a_source_that_crashes_a_scorer_has_null_scores_and_costs_no_other(videos, detectors, tmp_path):
    tables = Tables(tmp_path)
    broken = min(file.name for file in videos.glob("*.mp4"))
    prepare(videos, tables, settings(detected_text=detectors[0](0.0)), Here(crash={broken}))
    nulls = {span["uri"] for span in spans(tables) if span["detected_text_area"] is None}
    assert nulls == {broken}


@pytest.mark.parametrize("reason", ["too_large", "crashed"])
def test_a_source_that_was_scored_after_all_leaves_no_failure(reason, videos, detectors, tmp_path):
    tables = Tables(tmp_path)
    broken = min(file.name for file in videos.glob("*.mp4"))
    prepare(videos, tables, settings(detected_text=detectors[0](0.0)), Here(crash={broken}, reason=reason))
    assert [row["reason"] for row in tables.read("rejects").to_pylist() if row["stage"] == "score"] == [reason]
    # A death waits until somebody asks; what ended in order is tried with the next weights.
    if reason == "crashed":
        ask_again(tables, source=broken)
    done = prepare(videos, tables, settings(detected_text=detectors[0](1.0)), Here())
    assert reason not in done.reasons
    assert not tables.committed("failures/score")


def test_interrupted_while_scoring_it_continues_to_the_same_release(videos, detectors, tmp_path):
    scored = settings(detected_text=detectors[0](0.0))
    whole = prepare(videos, Tables(tmp_path / "whole"), scored, Here())
    tables = Tables(tmp_path / "stopped")
    for stop_after in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            prepare(videos, tables, scored, Here(stop_after=stop_after))
    runner = Here()
    assert prepare(videos, tables, scored, runner).release.digest == whole.release.digest
    assert "_analyze_unit" not in runner.ran
