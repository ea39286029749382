"""Laws of the registry, on a real MLflow store in a file."""

import subprocess
import sys

import pytest

from tests.vidgen_core.registry.small import promoted
from vidgen_core.applications.generator import digest
from vidgen_core.errors import VidgenError
from vidgen_core.registry import models
from vidgen_core.registry.copies import copy_version
from vidgen_core.registry.journal import models_of, read
from vidgen_core.registry.models import SHAPE_TAG, fetch, register, version_of
from vidgen_core.registry.promotion import block, rollback
from vidgen_core.registry.tracking import Tracker, client
from vidgen_core.registry.trial import drawn

TAGS = {"vidgen.release": "r", SHAPE_TAG: "9x16x16"}


@pytest.fixture(scope="module")
def versions(registry, generators):
    """Three versions, of which the third is champion after a refusal and two promotions."""
    made = [register(registry.run, "gated", generators(n)[0], model=generators(n)[1], tags=TAGS) for n in range(3)]
    told = [promoted(registry.uri, version, value) for version, value in zip(made, (1.0, 2.0, 0.5), strict=True)]
    assert [one.promoted for one in told] == [True, False, True]
    assert "worse than the champion" in told[1].reasons[0]
    return made


def test_a_run_is_resumed_by_its_key_and_no_row_is_lost(registry):
    first = registry.run
    for step in range(1200):
        first.log(step, {"train/loss": 1.0 / (step + 1)})
    first.close()
    again = Tracker.open(registry.uri, experiment="tests", run_key="run")
    assert again.run_id == first.run_id
    again.log(1200, {"train/loss": 0.0})
    again.close()
    assert len(client(registry.uri).get_metric_history(first.run_id, "train/loss")) == 1201


def test_the_same_weights_are_registered_once(registry, generators, versions):
    folder, model = generators(0)
    assert register(registry.run, "gated", folder, model=model, tags={}).version == versions[0].version
    with pytest.raises(VidgenError, match="cannot be called so"):
        register(registry.run, "shapes.journal", folder, model=model, tags={})


def test_a_worse_candidate_is_refused_and_a_better_one_promoted(registry, generators, versions, tmp_path):
    store = client(registry.uri)
    assert store.get_registered_model("gated").aliases == {"champion": 3, "challenger": 2, "previous": 1}
    told = [(one.seen, one.to, one.action, one.evidence["release"]) for one in read(store, "gated")]
    assert told == [(None, 1, "promote", "r"), (1, 2, "refuse", "r"), (1, 3, "promote", "r")]
    assert digest(fetch(registry.uri, "gated@champion", tmp_path)) == generators(2)[1]
    assert digest(fetch(registry.uri, "gated/2", tmp_path)) == generators(1)[1]
    again = promoted(registry.uri, versions[2], 0.5)
    assert again.reasons == ("It is the champion already.",)


def test_a_rollback_gives_the_previous_champion_bit_for_bit(registry, generators, tmp_path):
    for number in (0, 1):
        folder, model = generators(number)
        promoted(registry.uri, register(registry.run, "rolled", folder, model=model, tags=TAGS))
    before = files(fetch(registry.uri, "rolled@previous", tmp_path / "before"))
    rollback(registry.uri, "rolled", who="t")
    after = files(fetch(registry.uri, "rolled@champion", tmp_path / "after"))
    assert before == after == files(generators(0)[0])


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_who_fetch_at_once_both_get_all_of_it(registry, generators, versions, tmp_path, monkeypatch):
    downloaded, others = models._downloaded, []

    def slow(*arguments):
        came = downloaded(*arguments)
        if not others:
            others.append(None)
            others[0] = files(fetch(registry.uri, "gated/2", tmp_path))
        return came

    monkeypatch.setattr(models, "_downloaded", slow)
    assert files(fetch(registry.uri, "gated/2", tmp_path)) == others[0] == files(generators(1)[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_no_version_is_beyond_the_first_page(registry, versions, monkeypatch):
    store = type(client(registry.uri))
    search = store.search_registered_models
    monkeypatch.setattr(store, "search_registered_models", lambda self, **told: search(self, max_results=1, **told))
    # Each page holds one name, and the journal of the model has one of its own.
    assert "gated" in models_of(client(registry.uri))
    assert [one.name for one in models.trained_on(registry.uri, ["r"])].count("gated") == 3


def test_a_copy_has_the_same_bytes_tags_figures_and_journal_and_the_gate_decides(
    registry, other_registry, versions, tmp_path
):
    registry.run.checkpoints(
        versions[2].logged_model, [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}], ("d", "r")
    )
    artifacts = other_registry.folder / "mlartifacts"
    copy, decision = copy_version(registry.uri, "gated@champion", other_registry.uri, artifacts=artifacts, who="t")
    assert decision.promoted
    assert (copy.model, copy.release, copy.aliases) == (versions[2].model, "r", ("champion",))
    ours = fetch(registry.uri, "gated@champion", tmp_path / "ours")
    assert files(fetch(other_registry.uri, "gated@champion", tmp_path / "theirs")) == files(ours)
    figures = client(other_registry.uri).get_logged_model(copy.logged_model).metrics
    assert sorted((one.key, one.step, one.value) for one in figures) == [("loss", 2, 0.5), ("loss", 4, 0.25)]
    entries = read(client(other_registry.uri), "gated")
    assert [(one.action, bool(one.origin)) for one in entries] == [("promote", True), ("promote", False)]
    assert entries[0].reasons == read(client(registry.uri), "gated")[2].reasons
    copy_version(registry.uri, "gated/3", other_registry.uri, artifacts=artifacts, who="t")
    assert len(read(client(other_registry.uri), "gated")) == 2
    worse, refused = copy_version(registry.uri, "gated/2", other_registry.uri, artifacts=artifacts, who="t")
    assert not refused.promoted
    assert worse.aliases == ("challenger",)


def test_a_blocked_version_is_refused_with_the_next_move_unless_it_is_asked_for(registry, generators, tmp_path):
    folder, model = generators(0)
    version = register(registry.run, "taken", folder, model=model, tags=TAGS)
    promoted(registry.uri, version)
    block(registry.uri, [version], "it learned from a.mp4, which was taken down", who="t")
    for name in ("taken@champion", "taken/1", "taken"):
        with pytest.raises(VidgenError, match=r"must not be used: it learned from a\.mp4.*Train again.*--blocked-too"):
            fetch(registry.uri, name, tmp_path)
    assert digest(fetch(registry.uri, "taken@champion", tmp_path, blocked_too=True)) == model


def test_a_blocked_version_blocks_its_copy(registry, other_registry, generators):
    folder, model = generators(0)
    version = register(registry.run, "recalled", folder, model=model, tags=TAGS)
    promoted(registry.uri, version)
    told = (registry.uri, "recalled/1", other_registry.uri)
    copy_version(*told, artifacts=other_registry.folder / "mlartifacts", who="t")
    assert version_of(registry.uri, "recalled/1").copies == [other_registry.uri]
    block(registry.uri, [version], "it saw a.mp4", who="t")
    with pytest.raises(VidgenError, match=r"it saw a\.mp4.*1 copies of it there are blocked.*recalled version 1"):
        copy_version(*told, artifacts=None, who="t")
    assert version_of(other_registry.uri, "recalled@champion").blocked == "it saw a.mp4"


def test_a_version_is_tried_from_the_bytes_that_the_registry_has(registry, generators):
    folder, model = generators(0)
    version = register(registry.run, "tried", folder, model=model, tags=TAGS)
    assert drawn(registry.uri, version) == ""
    other = register(registry.run, "other", folder, model=model, tags=TAGS | {SHAPE_TAG: "9x32x32"})
    assert drawn(registry.uri, other) == "Its video is 9x16x16 (frames x height x width), and 9x32x32 is wanted."
    (file,) = (registry.folder / "mlartifacts" / "models" / version.logged_model).rglob("family/weights.safetensors")
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    assert "not those that were registered" in drawn(registry.uri, version)
    damaged = register(registry.run, "damaged", file.parents[1], model=digest(file.parents[1]), tags=TAGS)
    assert drawn(registry.uri, damaged) == "Its values are not all finite."


@pytest.mark.slow
def test_opening_a_version_needs_nothing_of_the_training(registry, versions):
    program = (
        "import sys, mlflow\n"
        f"mlflow.set_tracking_uri({registry.uri!r})\n"
        "mlflow.pyfunc.load_model('models:/gated@champion')\n"
        "ours = ('vidgen_core.training', 'flows', 'data_prep', 'ray', 'prefect')\n"
        "sys.exit(' '.join(name for name in sys.modules if name.startswith(ours)) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_asking_for_what_is_not_there_lists_what_is(registry, versions):
    for name, sentence in (("gate@champion", "Did you mean 'gated'"), ("gated@best", "no 'best'.*gated@champion"),
                           ("gated/9", "no version '9'.*1, 2, 3")):  # fmt: skip
        with pytest.raises(VidgenError, match=sentence):
            version_of(registry.uri, name)
