import json

from vidgen_core.training.journal import History, Journal, write_progress
from vidgen_core.training.loop import Step
from vidgen_core.training.place import Place
from vidgen_core.training.players import Turn
from vidgen_core.training.speed import Meter


def step(number, loss=1.0, stepped=True):
    return Step(number, [Turn("toy", loss, 2.0, stepped)], 0.1, 0.0, {"toy": 1e-3})


def meter(job, place=None):
    return Meter({}, lambda: None, (2, 3, 4, 4), job.settings, place or Place())


class Rows:
    def __init__(self):
        self.rows = []

    def log(self, step, values):
        self.rows.append((step, dict(values)))

    def flush(self):
        pass

    def close(self):
        raise AssertionError("whoever opened the recorder closes it")


def journal(cases, data, folder, *, place=None, recorder=None, kept=None, step=0):
    job = cases.job(data, folder)
    return Journal(job, place or Place(), meter(job), recorder=recorder, progress=None, kept=kept, step=step)


def test_a_row_is_the_mean_over_the_steps_since_the_last_and_skipped_steps_do_not_count(cases, data, tmp_path):
    rows = Rows()
    one = journal(cases, data, tmp_path / "work", recorder=rows)
    for number, loss in enumerate((1.0, 2.0, 6.0), 1):
        one.step(step(number, loss))
    one.step(step(4, float("nan"), stepped=False))
    one.row(step(4), 1)
    one.step(step(5, 7.0))
    one.row(step(5), 1)
    assert [(number, values["train/loss/toy"]) for number, values in rows.rows] == [(4, 3.0), (5, 7.0)]
    assert rows.rows[0][1]["train/skipped_steps"] == 1
    one.close()
    written = History.read(tmp_path / "work" / "history.jsonl")
    assert [(row["step"], row["train/loss/toy"]) for row in written] == [(4, 3.0), (5, 7.0)]


def test_a_journal_that_goes_on_logs_what_an_unbroken_one_would(cases, data, tmp_path):
    unbroken, before = (journal(cases, data, tmp_path / place) for place in ("unbroken", "broken"))
    for one in (unbroken, before):
        one.step(step(1, 1.0))
    kept = json.loads(json.dumps(before.keep()))
    before.step(step(2, 50.0))
    before.row(step(2), 0)
    after = journal(cases, data, tmp_path / "broken", kept=kept, step=1)
    for one in (unbroken, after):
        one.step(step(2, 3.0))
        one.row(step(2), 0)
        one.measured(step(2), {"loss": 0.5, "odd": float("nan")})
    rows = [History.read(tmp_path / place / "history.jsonl") for place in ("unbroken", "broken")]
    for some in rows:
        assert len(some) == 2
        assert some[0]["train/loss/toy"] == 2.0
        assert some[1] == {"step": 2, "held_out/loss": 0.5}


def test_workers_other_than_the_first_write_nothing(cases, data, tmp_path):
    rows = Rows()
    quiet = journal(cases, data, tmp_path / "work", place=Place(1, 2), recorder=rows)
    quiet.step(step(1))
    quiet.row(step(1), 0)
    quiet.measured(step(1), {"loss": 1.0})
    quiet.keep()
    quiet.close()
    assert rows.rows == []
    assert not (tmp_path / "work").exists()


def test_rows_after_the_checkpoint_and_a_line_cut_short_are_dropped(tmp_path):
    file = tmp_path / "history.jsonl"
    file.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n{"step": 4, "a')
    history = History(file, until_step=2)
    history.log(3, {"a": 9.0})
    history.close()
    assert History.read(file) == [{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 3, "a": 9}]


def test_progress_is_a_file_that_is_always_whole(tmp_path):
    file = tmp_path / "progress.json"
    tell = write_progress(file, "train")
    tell(0, 100, {})
    assert json.loads(file.read_text())["remaining_s"] is None
    tell(20, 100, {"steps_per_s": 4.0, "loss/toy": 0.25})
    told = json.loads(file.read_text())
    assert (told["stage"], told["done"], told["total"], told["rate"], told["remaining_s"]) == ("train", 20, 100, 4, 20)
    assert told["figures"]["loss/toy"] == 0.25


def test_progress_is_told_at_most_twice_a_second(cases, data, tmp_path, monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr("vidgen_core.training.journal.time.monotonic", lambda: now[0])
    job = cases.job(data, tmp_path / "work", steps=1000)

    def tell(done, total, figures):
        told.append(done)

    one = Journal(job, Place(), meter(job), recorder=None, progress=tell, kept=None, step=0)
    for number in range(1, 1001):
        now[0] += 0.01
        one.step(step(number))
    assert told[0] == 0
    assert told[-1] == 1000
    assert len(told) <= 1 + 20 + 1
