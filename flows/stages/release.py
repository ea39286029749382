"""A measured generator to a version in the registry, the champion if the gate lets it; and the page."""

import getpass
from pathlib import Path

import numpy as np

from data_prep.tables import Release
from flows.spec import STAGES, Row, Spec, StageResult
from flows.stage import ProgressFile
from flows.stages.train import open_tracker
from flows.strip import read_strip
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.page import PageData, render
from vidgen_core.registry.gate import Decision
from vidgen_core.registry.models import Version, promote, register
from vidgen_core.training.journal import History

__all__ = ["run"]


def run(spec: Spec, _progress: ProgressFile) -> StageResult:
    """Register, decide, and write the page."""
    recipe, trained = spec.recipe, spec.result("train").facts
    release = spec.result("latents").facts["release"]
    evaluation = Evaluation.model_validate_json((spec.run_dir / "evaluation.json").read_text())
    tracker = open_tracker(spec)
    tags = {"vidgen.release": release, "vidgen.recipe": recipe.name, "vidgen.run_key": spec.run_key}
    version = register(tracker, recipe.model, Path(trained["model_dir"]), model=trained["model"], tags=tags)
    lock_file = spec.home.root / "promotion.lock"
    decision = promote(tracker.uri, version, evaluation, recipe.gate, lock_file=lock_file, who=getpass.getuser())
    page = spec.home.reports_dir / f"{recipe.model}-{version.version}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(_page(spec, evaluation, version, decision)))
    tracker.artifact(page, "report")
    tracker.finish()
    alias = "champion" if decision.promoted else "challenger"
    note = " ".join(decision.reasons)
    rows = (Row(name=f"{recipe.model} version {version.version} @{alias}", note=note), Row(name="page", note=str(page)))
    facts = {
        "version": version.version, "promoted": decision.promoted, "page": str(page), "reasons": decision.reasons,
        "data": spec.result("prepare").facts["data"],
    }  # fmt: skip
    return StageResult(stage="release", rows=rows, facts=facts)


def _page(spec: Spec, evaluation: Evaluation, version: Version, decision: Decision) -> PageData:
    results = {stage: spec.result(stage) for stage in STAGES[:-1]}
    shown = np.load(spec.run_dir / "shown.npz")
    facts = {stage: result.facts for stage, result in results.items()}
    release = Release.model_validate_json((spec.home.releases_dir / f"{facts['latents']['release']}.json").read_text())
    histories = {"generator": facts["train"]["history"], "codec": facts["latents"]["codec_history"]}
    return PageData(
        title=f"{version.name} version {version.version}",
        promoted=decision.promoted,
        reasons=decision.reasons,
        funnel=[(row.name, row.count) for row in results["prepare"].rows if row.count is not None],
        rejects=facts["prepare"]["reasons"],
        strip=read_strip(Path(facts["train"]["strip_dir"])),
        strip_prompts=facts["train"]["strip_prompts"],
        histories={name: History.read(Path(file)) for name, file in histories.items() if file},
        evaluation=evaluation,
        made=shown["made"],
        prompts=facts["evaluate"]["prompts"],
        real=shown["real"],
        captions=facts["evaluate"]["captions"],
        frame_rate=spec.recipe.data.frame_rate,
        facts={
            "recipe": spec.recipe.name,
            "run": spec.run_key,
            "data release": release.digest,
            "model": evaluation.model,
            "seed": str(spec.recipe.training.seed),
        },
        held_out=facts["evaluate"]["held_out"],
        wanted=spec.recipe.gate.wanted,
        seconds={stage: result.seconds for stage, result in results.items()},
        notes=[*(row.note for row in results["prepare"].rows if row.count is None), *facts["train"]["notes"]],
        recipe=spec.recipe.model_dump_json(indent=2),
    )
