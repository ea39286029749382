"""Families side by side: the same budget, nothing done twice, and a table that says what failed."""

import json

import pytest

from flows import compare as flow
from flows.commands.compare import Table, choose, comparison_of, markdown, run_comparison
from flows.comparison import measured_by
from flows.spec import StageResult
from flows.stage import write_value
from vidgen_core import digests, discovery
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.truth import Score, Share
from vidgen_core.families import gan

STEP_S = {"flow_matching": 0.5, "gan": 0.1, "diffusion_gan": 1.0}


class Stages:
    """Stages that answer at once, and remember what was asked of them."""

    def __init__(self, release="r1", broken=()):
        self.release, self.broken, self.ran, self.teachers = release, broken, [], {}

    def __call__(self, spec):
        name = spec.recipe.family.name
        self.ran.append(spec.stage if spec.stage in ("prepare", "latents") else f"{spec.stage} {name}")
        if spec.stage == "train" and name in self.broken:
            raise VidgenError("The loss stopped being finite")
        answer = StageResult(stage=spec.stage, facts=getattr(self, spec.stage)(spec, name))
        write_value(spec.result_file(spec.stage), answer)
        return answer

    def prepare(self, *_):
        return {}

    def latents(self, *_):
        return {"release": self.release}

    def pace(self, spec, name):
        # Two workers of one thread each, which wait half of the time for others of the machine.
        return {"step_s": 2 * STEP_S[name], "step_cpu_s": 2 * STEP_S[name], "tokens": 100, **self.told_of(spec)}

    def told_of(self, spec):
        return {
            "release": spec.result("latents").facts["release"], "config": digests.of_value(spec.recipe.family.config())
        }  # fmt: skip

    def train(self, spec, name):
        history = spec.run_dir / "history.jsonl"
        rates = {
            "speed/steps_per_s": 0.5 / STEP_S[name], "speed/step_cpu_s": 2 * STEP_S[name],
            "speed/tokens_per_s": 1000.0, "speed/samples_per_s": 10.0,
        }  # fmt: skip
        history.write_text(json.dumps({"step": 10, **rates}) + "\n")
        self.teachers[name] = spec.recipe.family.options.get("teacher_weights", "")
        return {"history": str(history), "model_dir": f"models of {name}", **self.told_of(spec)}

    def evaluate(self, spec, name):
        right = Share.of(5, 8)
        score = Score(one_shape=right, color=right, shape=right, direction=right, straight=right, foreign=0)
        release = spec.result("latents").facts["release"]
        value = Evaluation(
            model=name, data=release, held_out={}, distances=(), truth=score, truth_real=score, not_run={},
            seconds_per_clip=0.25,
        )  # fmt: skip
        write_value(spec.run_dir / "evaluation.json", value)
        return {"network_calls": 23, "parameters": 2_000_000, "measured_by": measured_by()}


@pytest.fixture
def compared(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")

    def act(stages, cores=2, **changes):
        stages_of = {stage: lambda spec: stages(spec) for stage in ("prepare", "latents", "train", "evaluate")}
        monkeypatch.setattr(flow, "STAGE_FLOWS", stages_of)
        monkeypatch.setattr(flow, "run_stage", stages)
        told = {"families": "flow_matching:tiny,gan:tiny", "minutes": 1.0, "token_steps": None, "ray": "", **changes}
        value = comparison_of("shapes.tiny", str(tmp_path / "videos"), tmp_path / "home", [f"cores={cores}"], **told)
        return flow.compare.fn(value)

    return act


def test_each_family_gets_the_steps_that_its_pace_allows(compared):
    rows = compared(Stages())
    assert [(row.family, row.steps) for row in rows] == [("flow_matching:tiny", 120), ("gan:tiny", 600)]
    assert [row.training_s for row in rows] == [pytest.approx(60), pytest.approx(60)]
    # The two workers of the recipe share what there is of cores.
    fewer = compared(Stages(), cores=1)
    assert [(row.steps, row.training_s) for row in fewer] == [(60, pytest.approx(60)), (300, pytest.approx(60))]
    even = compared(Stages(), minutes=None, token_steps=80_000.0)
    assert [(row.steps, row.token_steps) for row in even] == [(100, 80_000.0)] * 2


def test_what_is_done_is_not_done_again_unless_the_clips_are_others(compared):
    first, again, other = Stages(), Stages(), Stages(release="r2")
    rows = compared(first)
    of_each = ["pace", "train", "evaluate"]
    own = [f"{stage} {name}" for name in ("flow_matching", "gan") for stage in of_each]
    assert first.ran == ["prepare", "latents", *own]
    assert compared(again) == rows
    assert again.ran == ["prepare", "latents"]
    assert [row.evaluation.data for row in compared(other)] == ["r2", "r2"]
    assert other.ran == first.ran


def test_a_size_that_stands_for_something_else_by_now_is_timed_trained_and_measured_again(compared, monkeypatch):
    compared(Stages())
    larger, again = gan.Config.tiny().model_copy(update={"r1": 7.0}), Stages()
    monkeypatch.setattr(gan.Config, "tiny", classmethod(lambda cls: larger))
    compared(again)
    assert again.ran == ["prepare", "latents", "pace gan", "train gan", "evaluate gan"]


def test_a_family_that_fails_is_a_row_that_says_why_and_is_tried_again(compared):
    rows = compared(Stages(broken=("flow_matching",)))
    assert rows[0].failed == "The loss stopped being finite."
    assert rows[1].evaluation is not None
    told = markdown(Table(command="vidgen compare", date="2026-01-02", rows=tuple(rows)))
    assert "`flow_matching:tiny` has no figures: The loss stopped being finite." in told
    mended = Stages()
    assert [row.failed for row in compared(mended)] == ["", ""]
    assert mended.ran == ["prepare", "latents", "train flow_matching", "evaluate flow_matching"]


def test_a_student_learns_from_its_teacher_where_that_is_compared_too(compared):
    families = "diffusion_gan:tiny,gan:tiny,flow_matching:tiny"
    stages = Stages()
    rows = compared(stages, families=families)
    assert [row.family for row in rows] == families.split(",")
    assert [row.teacher for row in rows] == ["flow_matching:tiny", "", ""]
    assert stages.teachers == {"diffusion_gan": "models of flow_matching", "gan": "", "flow_matching": ""}
    table = markdown(Table(command="vidgen compare", date="2026-01-02", rows=tuple(rows)))
    assert "| diffusion_gan:tiny after flow_matching:tiny |" in table
    without, broken = Stages(), Stages(broken=("flow_matching",))
    assert compared(without, families="diffusion_gan:tiny", minutes=2.0)[0].teacher == ""
    assert compared(broken, families=families, minutes=3.0)[0].teacher == ""
    assert without.teachers["diffusion_gan"] == broken.teachers["diffusion_gan"] == ""


def test_the_table_has_a_row_a_family_and_one_of_real_clips(compared):
    table = markdown(Table(command="vidgen compare --minutes 1", date="2026-01-02", rows=tuple(compared(Stages()))))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [row[0] for row in rows] == ["family", "---", "flow_matching:tiny", "gan:tiny", "real clips"]
    by_name = dict(zip(rows[0], rows[2], strict=True))
    assert by_name["color"] == "62 % [31, 86]"
    assert (by_name["calls/clip"], by_name["s/clip"], by_name["training"]) == ("23", "0.25", "1:00 min")
    assert "2026-01-02 by `vidgen compare --minutes 1`" in table


def test_all_families_of_the_folder_are_compared_when_none_is_named():
    assert [one.name for one in choose("")] == discovery.names("vidgen_core.families")
    assert [(one.name, one.size) for one in choose("gan, vae:base,gan:tiny")] == [("gan", "tiny"), ("vae", "base")]


def test_mistakes_get_a_sentence(compared, tmp_path):
    for expected, changes in (
        ("nothing called 'gun'", {"families": "gun"}),
        ("no size 'tinny'", {"families": "gan:tinny"}),
        ("one budget", {"token_steps": 5.0}),
    ):
        with pytest.raises(VidgenError, match=expected):
            compared(Stages(), **changes)
    budget = {"families": "gan", "minutes": 1.0, "token_steps": None, "ray": ""}
    with pytest.raises(VidgenError, match="of all families"):
        comparison_of("shapes.tiny", str(tmp_path / "videos"), tmp_path / "h", ["family.network.dim=3"], **budget)
    value = comparison_of("shapes.tiny", str(tmp_path / "videos"), tmp_path / "h", [], **budget)
    with pytest.raises(VidgenError, match="cannot be written there"):
        run_comparison(value, [], tmp_path / "nowhere" / "table.md")
