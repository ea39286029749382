"""A measured generator to a version in the registry, the champion if the gate lets it; and the page."""

import getpass
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.rights import count_licenses
from data_prep.tables import Release
from flows.commands.prove import kept_proof
from flows.spec import STAGES, Row, Spec, StageResult
from flows.stage import ProgressFile
from flows.stages.train import open_tracker
from flows.strip import read_strip
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.page import PageData, render
from vidgen_core.registry.gate import Decision, Evidence, Rival
from vidgen_core.registry.models import SHAPE_TAG, Version, register, version_of
from vidgen_core.registry.promotion import promote
from vidgen_core.registry.trial import drawn
from vidgen_core.training.journal import History

__all__ = ["run"]


def run(spec: Spec, _progress: ProgressFile) -> StageResult:
    """Register, decide, and write the page.

    Raises:
        VidgenError: Nothing was trained or measured, or it was trained again since it was measured.

    """
    recipe, done = spec.recipe, spec.result("train")
    trained, release, data = done.facts, done.fact("release"), done.fact("data")
    samples = spec.result("evaluate").facts["samples"]
    evaluation = Evaluation.model_validate_json((spec.run_dir / "evaluation.json").read_text())
    if evaluation.model != trained["model"]:
        raise VidgenError(
            "What was measured is not what was trained last", got=evaluation.model, allowed=trained["model"],
            move="Give `vidgen evaluate` first, with the same options",
        )  # fmt: skip
    tracker = open_tracker(spec)
    shape = f"{recipe.data.frames}x{recipe.data.height}x{recipe.data.width}"
    tags = {"vidgen.release": release, "vidgen.recipe": recipe.name, "vidgen.run_key": spec.run_key, SHAPE_TAG: shape}
    version = register(tracker, recipe.model, Path(trained["model_dir"]), model=trained["model"], tags=tags)
    tracker.checkpoints(version.logged_model, _figures(Path(trained["history"]), evaluation), (recipe.name, release))
    evidence = _evidence(spec, evaluation, version)
    decision = promote(tracker.uri, version, evidence, who=getpass.getuser())
    page = spec.home.reports_dir / f"{recipe.model}-{version.version}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(_page(spec, evidence, version, decision)))
    shutil.copyfile(samples, page.with_suffix(".samples.json"))
    tracker.artifact(page, "report")
    tracker.finish()
    named = version_of(tracker.uri, f"{version.name}/{version.version}")
    note = " ".join([*decision.reasons, *decision.notes])
    rows = (Row(name=str(named), note=note), Row(name="page", note=str(page)))
    facts = {
        "version": version.version, "promoted": decision.promoted, "page": str(page), "reasons": decision.reasons,
        "data": data,
        "mlflow": tracker.pages(recipe.model, version.version, f"report/{page.name}"),
    }  # fmt: skip
    return StageResult(stage="release", rows=rows, facts=facts)


def _evidence(spec: Spec, evaluation: Evaluation, version: Version) -> Evidence:
    """What the gate decides upon: what was measured, proved, taken down, and drawn from the registry's bytes."""
    proof = kept_proof(spec.home, Path(spec.result("train").facts["model_dir"]).name)
    rival = spec.result("evaluate").facts.get("rival")
    tables = spec.home.tables()
    forgotten = tables.read("forgotten").to_pylist()
    release = Release.model_validate_json((spec.home.releases_dir / f"{version.release}.json").read_text())
    return Evidence(
        evaluation=evaluation,
        settings=spec.recipe.gate,
        run=version.run_id,
        proof=None if proof is None else (proof.sentence, proof.passed),
        taken_down=tuple(row["source_id"] for row in forgotten if version.release in row["releases"].split()),
        licenses=count_licenses(tables, release),
        drawn=drawn(spec.home.mlflow_uri, version),
        rival=None if rival is None else Rival.model_validate(rival),
    )


def _figures(history: Path, evaluation: Evaluation) -> list[dict[str, float]]:
    """What was measured of each checkpoint on held-out clips, and of the last one by the evaluation."""
    rows = [row for row in History.read(history) if any(name.startswith("held_out/") for name in row)]
    held = [{name: row[name] for name in row if name == "step" or name.startswith("held_out/")} for row in rows]
    last = held[-1]["step"] if held else 0
    return [*held, {"step": last, **{f"eval/{one.key}": one.value for one in evaluation.distances}}]


def _records(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the samples on the page, in its order."""
    rows = [row for row in json.loads(Path(facts["samples"]).read_text()) if row["purpose"] == facts["purpose"]]
    return [rows[number] for number in facts["numbers"]]


def _page(spec: Spec, evidence: Evidence, version: Version, decision: Decision) -> PageData:
    results = {stage: spec.result(stage) for stage in STAGES[:-1]}
    shown = np.load(spec.run_dir / "shown.npz")
    facts = {stage: result.facts for stage, result in results.items()}
    licenses, evaluation = evidence.licenses or {}, evidence.evaluation
    histories = {"generator": facts["train"]["history"], "codec": facts["latents"]["codec_history"]}
    return PageData(
        title=f"{version.name} version {version.version}",
        promoted=decision.promoted,
        reasons=decision.reasons,
        gate_notes=decision.notes,
        funnel=[(row.name, row.count) for row in results["prepare"].rows if row.count is not None],
        rejects=facts["prepare"]["reasons"],
        strip=read_strip(Path(facts["train"]["strip_dir"])),
        strip_prompts=facts["train"]["strip_prompts"],
        histories={name: History.read(Path(file)) for name, file in histories.items() if file},
        evaluation=evaluation,
        made=shown["made"],
        prompts=facts["evaluate"]["prompts"],
        mistakes=facts["evaluate"]["mistakes"],
        champion=shown.get("champion"),
        champion_is=facts["evaluate"]["champion"],
        nearest=shown.get("nearest"),
        nearness=facts["evaluate"].get("nearness", ()),
        records=_records(facts["evaluate"]),
        real=shown["real"],
        captions=facts["evaluate"]["captions"],
        frame_rate=spec.recipe.data.frame_rate,
        facts={
            "recipe": spec.recipe.name,
            "run": spec.run_key,
            "data release": facts["train"]["release"],
            "licenses of its clips": ", ".join(f"{name} {count:,}" for name, count in licenses.items()),
            "model": evaluation.model,
            "seed": str(spec.recipe.training.seed),
        },
        held_out=facts["evaluate"]["held_out"],
        wanted=spec.recipe.gate.wanted,
        seconds={stage: result.seconds for stage, result in results.items()},
        notes=[*(row.note for row in results["prepare"].rows if row.count is None), *facts["train"]["notes"]],
        recipe=spec.recipe.model_dump_json(indent=2),
    )
