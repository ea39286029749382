"""Families compared: the same clips, codec, budget and metrics for each, and an ordinary run of its own."""

from pathlib import Path
from statistics import median
from typing import Any

from flows.cluster import fitting
from flows.home import Home
from flows.recipes.recipe import FamilyChoice, Recipe
from flows.spec import Spec, StageResult
from flows.stage import write_value
from vidgen_core import digests
from vidgen_core.evaluation import evaluate
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.frozen import Frozen
from vidgen_core.training.journal import History
from vidgen_core.training.settings import TrainSettings

__all__ = [
    "SHARED", "Comparison", "Entry", "entry_of", "is_evaluated", "is_of", "measured_by", "named", "shared", "taken_s",
]  # fmt: skip

# Stages whose answers do not hang on the family.
SHARED = ("prepare", "latents")
_FEWEST_STEPS = 10
_CHECKPOINTS = 10


class Comparison(Frozen):
    """What is compared.

    Args:
        recipe: The run of each; its family and number of steps are replaced.
        families: In the order of the rows.
        minutes: Training of each: a family's steps are chosen once, by how long one takes here. On a CPU these are
            minutes of all the cores that training was given, by the time that they worked for it, so that what else the
            machine does takes nothing from a family.
        token_steps: Training of each, as steps times samples times places that the network works on; instead of that.
        videos, home_dir: As in `Spec`.
        ray: As in `Spec`.

    """

    recipe: Recipe
    families: tuple[FamilyChoice, ...]
    minutes: float | None = None
    token_steps: float | None = None
    videos: str
    home_dir: Path
    ray: str = ""

    @property
    def home(self) -> Home:
        """Where everything is kept."""
        return Home(self.home_dir)

    @property
    def file(self) -> Path:
        """Where the rows are kept."""
        told = self.model_dump(mode="json", exclude={"home_dir", "ray"})
        return self.home.root / "comparisons" / f"{digests.of_value(told)}.json"

    def spec(self, stage: str, family: FamilyChoice | None = None, *, steps: int | None = None) -> Spec:
        """A stage of a family's run, or of the clips and latents that all share."""
        recipe = self.recipe
        if family is not None:
            recipe = recipe.model_copy(update={"family": family})
        if steps is not None:
            own = recipe.training
            changes = {
                "steps": steps,
                "warmup_steps": min(own.warmup_steps, steps // 10),
                "checkpoint_every": min(own.checkpoint_every, -(-steps // _CHECKPOINTS)),
            }
            recipe = recipe.model_copy(update={"training": own.model_copy(update=changes)})
        return Spec(stage=stage, recipe=recipe, videos=self.videos, home_dir=self.home_dir, ray=self.ray)

    def steps(self, pace: StageResult) -> int:
        """Steps that the budget allows at a family's pace."""
        if self.token_steps is not None:
            allowed = self.token_steps / (pace.facts["tokens"] * self.recipe.training.batch)
        else:
            assert self.minutes is not None
            settings = fitting(self.recipe.training, self.spec("pace"))
            allowed = 60 * self.minutes / taken_s(settings, pace.facts["step_s"], pace.facts["step_cpu_s"])
        return max(_FEWEST_STEPS, round(allowed))


class Entry(Frozen):
    """One row.

    Args:
        family: `name:size`.
        teacher: The row whose trained weights it learned from; "" is none.
        model_dir: Folder of the trained generator.
        failed: Why there are no figures; "" where there are.
        steps: Of training.
        token_steps: Steps times samples times places that the network works on.
        training_s: Steps times the median of what one took of the budget; held-out passes are not in it.
        parameters: Of the family.
        network_calls: Passes through the network to draw one clip, counted.
        evaluation: All that was measured.

    """

    family: str
    failed: str = ""
    teacher: str = ""
    model_dir: str = ""
    steps: int = 0
    token_steps: float = 0.0
    training_s: float = 0.0
    parameters: int = 0
    network_calls: int = 0
    evaluation: Evaluation | None = None


def named(family: FamilyChoice) -> str:
    """A family as it is written."""
    return f"{family.name}:{family.size}" if family.size else family.name


def taken_s(settings: TrainSettings, step_s: float, step_cpu_s: float) -> float:
    """What a step takes of a budget, in seconds: on a CPU those of its cores, shared by all that training was given."""
    return step_cpu_s / (settings.workers * settings.threads_per_worker) if settings.device == "cpu" else step_s


def shared(spec: Spec, results: tuple[StageResult, ...]) -> Spec:
    """Give a family's run the answers of the stages that all share."""
    for result in results:
        write_value(spec.result_file(result.stage), result)
    return spec


def measured_by() -> str:
    """Digest of the code that measures: figures of two versions of it do not stand in one table."""
    folder = Path(evaluate.__file__).parent
    return digests.of_value([file.read_text() for file in sorted(folder.rglob("*.py"))])


def is_of(spec: Spec, release: str) -> bool:
    """Whether a family's pace or training was of these clips, and of what its size stands for today."""
    if not spec.result_file(spec.stage).exists():
        return False
    facts = spec.result(spec.stage).facts
    return bool(facts.get("config") == digests.of_value(spec.recipe.family.config()) and facts["release"] == release)


def is_evaluated(spec: Spec, release: str) -> bool:
    """Whether a family's run is done, with these clips, today's sizes and this code that measures."""
    done = is_of(spec, release) and spec.result_file("evaluate").exists()
    if not done or not (spec.run_dir / "evaluation.json").exists():
        return False
    facts: dict[str, Any] = spec.result("evaluate").facts
    return bool(facts.get("measured_by") == measured_by() and _evaluation(spec).data == release)


def entry_of(spec: Spec) -> Entry:
    """The row of a run that is done."""
    trained, evaluated = spec.result("train").facts, spec.result("evaluate").facts
    rows = [row for row in History.read(Path(trained["history"])) if row.get("speed/steps_per_s")]
    settings = fitting(spec.recipe.training, spec)
    times_s = [taken_s(settings, 1 / row["speed/steps_per_s"], row["speed/step_cpu_s"]) for row in rows]
    tokens = round(rows[-1]["speed/tokens_per_s"] / rows[-1]["speed/samples_per_s"]) if rows else 0
    return Entry(
        family=named(spec.recipe.family),
        model_dir=trained["model_dir"],
        steps=settings.steps,
        token_steps=float(settings.steps * settings.batch * tokens),
        training_s=settings.steps * median(times_s) if times_s else 0.0,
        parameters=evaluated["parameters"],
        network_calls=evaluated["network_calls"],
        evaluation=_evaluation(spec),
    )


def _evaluation(spec: Spec) -> Evaluation:
    return Evaluation.model_validate_json((spec.run_dir / "evaluation.json").read_text())
