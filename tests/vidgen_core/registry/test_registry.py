"""Laws of the registry, on a real MLflow store in a file."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.measurements import Measurement
from vidgen_core.registry.gate import decide
from vidgen_core.registry.models import fetch, promote, register
from vidgen_core.registry.settings import GateSettings
from vidgen_core.registry.tracking import Tracker, client


def evaluation(value, protocol="p", width=0.1):
    distance = Measurement(
        name="rfd/n64", protocol=protocol, value=value, low=value - width, high=value + width, floor=0.1, n=64
    )
    return Evaluation(
        model="m", data="d", held_out={"loss": 0.1}, distances=(distance,), truth=None, truth_real=None, not_run={},
        seconds_per_clip=0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def uri(home):
    return f"sqlite:///{home / 'mlflow.db'}"


def tracker(uri, home, key="run"):
    return Tracker.open(uri, experiment="tests", run_key=key, artifacts=home / "artifacts")


def folder(home, name):
    made = home / name
    made.mkdir(exist_ok=True)
    (made / "generator.json").write_text(json.dumps({"name": name}))
    return made


def test_a_run_is_resumed_by_its_key_and_no_row_is_lost(uri, home):
    first = tracker(uri, home)
    for step in range(1200):
        first.log(step, {"train/loss": 1.0 / (step + 1)})
    first.close()
    again = tracker(uri, home)
    assert again.run_id == first.run_id
    again.log(1200, {"train/loss": 0.0})
    again.close()
    assert len(client(uri).get_metric_history(first.run_id, "train/loss")) == 1201


def test_the_same_weights_are_registered_once(uri, home):
    run = tracker(uri, home)
    one = register(run, "twice", folder(home, "a"), model="digest-a", tags={})
    assert register(run, "twice", folder(home, "a"), model="digest-a", tags={}) == one
    assert register(run, "twice", folder(home, "b"), model="digest-b", tags={}).version == one.version + 1


def test_a_worse_candidate_is_refused_and_a_better_one_promoted(uri, home):
    run, lock = tracker(uri, home), home / "lock"
    versions = [
        register(run, "gated", folder(home, f"g{n}"), model=f"digest-{n}", tags={"vidgen.release": "r"})
        for n in range(3)
    ]
    settings = GateSettings()
    assert promote(uri, versions[0], evaluation(1.0), settings, lock_file=lock, who="t").promoted
    refused = promote(uri, versions[1], evaluation(2.0), settings, lock_file=lock, who="t")
    assert not refused.promoted
    assert "worse than the champion" in refused.reasons[0]
    assert promote(uri, versions[2], evaluation(0.5), settings, lock_file=lock, who="t").promoted
    registered = client(uri).get_registered_model("gated")
    assert registered.aliases == {"champion": 3, "challenger": 2, "previous": 1}
    journal = [json.loads(value) for key, value in registered.tags.items() if key.startswith("vidgen.journal")]
    assert sorted((entry["from"] or 0, entry["to"], entry["promoted"]) for entry in journal) == [
        (0, 1, True),
        (1, 2, False),
        (1, 3, True),
    ]
    assert json.loads((fetch(uri, "gated@champion", home / "cache") / "generator.json").read_text()) == {"name": "g2"}
    assert json.loads((fetch(uri, "gated/2", home / "cache") / "generator.json").read_text()) == {"name": "g1"}


def test_two_promotions_at_once_leave_one_champion_and_both_in_the_journal(uri, home):
    run, lock = tracker(uri, home), home / "lock"
    versions = [register(run, "raced", folder(home, f"r{n}"), model=f"race-{n}", tags={}) for n in range(2)]

    def go(version):
        return promote(uri, version, evaluation(1.0), GateSettings(), lock_file=lock, who="t")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(go, versions))
    registered = client(uri).get_registered_model("raced")
    champion, previous = registered.aliases["champion"], registered.aliases["previous"]
    assert {int(champion), int(previous)} == {1, 2}
    assert sum(key.startswith("vidgen.journal") for key in registered.tags) == 2


def test_numbers_of_other_protocols_are_not_compared():
    decision = decide(evaluation(0.1, protocol="other"), evaluation(1.0), GateSettings())
    assert not decision.promoted
    assert "cannot be compared" in decision.reasons[0]


def test_asking_for_what_is_not_there_lists_what_is(uri, home):
    run = tracker(uri, home)
    register(run, "shapes", folder(home, "s"), model="shape", tags={})
    with pytest.raises(VidgenError, match="Did you mean 'shapes'"):
        fetch(uri, "shape@champion", home / "cache")
    with pytest.raises(VidgenError, match="no 'champion'"):
        fetch(uri, "shapes@champion", home / "cache")
    with pytest.raises(VidgenError, match="no version '9'"):
        fetch(uri, "shapes/9", home / "cache")
