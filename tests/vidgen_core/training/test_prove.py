"""Laws of resuming, proved as `vidgen train --prove-resume` proves them: by killing real workers."""

import json

import pytest

from vidgen_core.training.prove import prove, run_workers, traced


@pytest.fixture
def make(data, cases, tmp_path):
    """Jobs of a family that processes without our toys can build."""

    def job(name, config=None, **changes):
        network = {"dim": 32, "depth": 2, "heads": 2, **(config or {})}
        plain = cases.job(data, tmp_path / name, name="flow_matching", config={"network": network}, **changes)
        return plain.model_copy(update={"space": plain.space.model_copy(update={"text_dim": 6})})

    return job


LAYOUTS = {
    "one worker": {"workers": 1},
    "two workers": {"workers": 2},
    "two workers that share weights": {"workers": 2, "shard_workers": 2},
    "two workers that share weights, with Muon": {"workers": 2, "shard_workers": 2, "optimizer": "muon"},
    "four workers in two groups that share weights": {"workers": 4, "shard_workers": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_run_goes_on_bit_for_bit_and_sample_for_sample_on_another_number_of_workers(make, tmp_path, layout):
    proof = prove(make("job", **LAYOUTS[layout]), tmp_path / "proof")
    assert proof.passed, proof
    same, other = proof.cases
    assert same.losses_equal
    assert same.weights_equal
    assert other.workers[0] != other.workers[1]
    assert other.samples_equal
    assert 0 < other.resumed_from < proof.killed_at


@pytest.mark.slow
def test_losses_are_those_of_one_worker_on_any_number_with_split_weights_or_whole_ones(make, tmp_path):
    layouts = [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]
    found = {}
    for workers, sharers in layouts:
        job = make(f"{workers}-{sharers}", workers=workers, shard_workers=sharers, batch=8, accumulate=4 // workers)
        run_workers(job, tmp_path / f"{workers}-{sharers}.trace")
        found[workers, sharers], _ = traced(tmp_path / f"{workers}-{sharers}.trace")
    losses, samples = zip(*found[1, 1].values(), strict=True)
    for layout in layouts[1:]:
        others, drawn = zip(*found[layout].values(), strict=True)
        assert drawn == samples
        assert sum(others, []) == pytest.approx(sum(losses, []), rel=1e-4)


@pytest.mark.slow
def test_a_proof_fails_where_a_run_does_not_resume(make, tmp_path, monkeypatch):
    from vidgen_core.training import prove as proving

    plain = proving._placed

    def other_seed(job, work_dir, workers):
        placed = plain(job, work_dir, workers)
        seed = 1 if work_dir.name == "unbroken" else 0
        return placed.model_copy(update={"settings": placed.settings.model_copy(update={"seed": seed})})

    monkeypatch.setattr(proving, "_placed", other_seed)
    proof = prove(make("job"), tmp_path / "proof")
    assert not proof.passed
    assert not any(case.samples_equal for case in proof.cases)
    assert json.loads(proof.model_dump_json())["cases"][0]["passed"] is False


@pytest.mark.slow
def test_two_workers_that_share_weights_are_killed_and_go_on_with_one(make, tmp_path):
    job = make("job", workers=2, shard_workers=2, steps=6, checkpoint_every=2)
    run_workers(job, tmp_path / "trace", die_at=5)
    alone = job.settings.model_copy(update={"workers": 1, "shard_workers": 1, "accumulate": 2})
    run_workers(job.model_copy(update={"settings": alone}), tmp_path / "trace")
    trace, agree = traced(tmp_path / "trace")
    assert agree
    assert sorted(trace) == list(range(1, 7))
    positions = [position for _, samples in trace.values() for position in samples]
    assert sorted(positions) == list(range(6 * 4))
