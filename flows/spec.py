"""What a stage is asked, what it answers, and the files between its process and the launcher."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from flows.home import Home
from flows.recipes.recipe import Recipe
from vidgen_core import digests
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["STAGES", "Follow", "Progress", "Row", "Spec", "StageResult", "last_spec", "read_spec"]

# In the order in which the pipeline runs them; each is a file of `flows/stages` and a flow.
STAGES = ("prepare", "latents", "train", "evaluate", "release")


class Row(Frozen):
    """A line of the report: so many of something, in so many seconds."""

    name: str
    count: int | None = None
    seconds: float | None = None
    note: str = ""


class StageResult(Frozen):
    """A stage's answer.

    Args:
        facts: What later stages and the page need: digests, folders relative to the home, figures.

    """

    stage: str
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)

    def fact(self, name: str) -> Any:
        """One of the facts that an older vidgen did not tell.

        Raises:
            VidgenError: It is not there.

        """
        if name not in self.facts:
            raise VidgenError(
                f"What {self.stage!r} made was written by an older vidgen, which did not tell its {name}",
                move=f"Give vidgen {self.stage} again: it does only what is not done yet",
            )
        return self.facts[name]


class Progress(Frozen):
    """How far a stage is, as it tells the launcher through a file."""

    stage: str
    done: int
    total: int | None = None
    rate: float | None = None
    remaining_s: float | None = None
    figures: dict[str, float] = Field(default_factory=dict)


class Follow(Frozen):
    """Whose progress the launcher is to show meanwhile: a trainer's, which tells it in its own file."""

    file: Path


class Spec(Frozen):
    """One stage of one run: all that its process is told.

    Args:
        ray: HOST:PORT of the Ray cluster to work on; "" for a private Ray on this machine. It changes no result.
        jobs: Address of the Ray job server that is to run the stage, as http://HOST:8265, or a RayCluster of Kubernetes
            as kuberay://NAMESPACE/NAME; "" to run it here.

    """

    stage: str
    recipe: Recipe
    videos: str | Path
    home_dir: Path
    ray: str = ""
    jobs: str = ""

    @property
    def home(self) -> Home:
        """Where everything is kept."""
        return Home(self.home_dir)

    @property
    def run_key(self) -> str:
        """What makes two commands the same run. The number of cores and the hour change no result, so are not in it."""
        recipe = self.recipe.model_dump(mode="json", exclude={"cores", "schedule"})
        return digests.of_value([recipe, str(self.videos)])

    @property
    def run_dir(self) -> Path:
        """The run's notes."""
        return self.home.runs_dir / self.run_key

    @property
    def spec_file(self) -> Path:
        """Where the spec itself is."""
        return self.run_dir / f"{self.stage}.spec.json"

    @property
    def progress_file(self) -> Path:
        """How far the stage is."""
        return self.run_dir / f"{self.stage}.progress.json"

    @property
    def follow_file(self) -> Path:
        """Where the stage names another progress file to show, while a trainer works."""
        return self.run_dir / f"{self.stage}.follow.json"

    @property
    def mistake_file(self) -> Path:
        """The sentence for the user, when the stage ended with one."""
        return self.run_dir / f"{self.stage}.mistake.json"

    @property
    def log_file(self) -> Path:
        """All that the stage and its libraries print."""
        return self.run_dir / f"{self.stage}.log"

    def result_file(self, stage: str) -> Path:
        """The answer of a stage of this run."""
        return self.run_dir / f"{stage}.json"

    def result(self, stage: str) -> StageResult:
        """The answer of an earlier stage of this run.

        Raises:
            VidgenError: That stage has not been run with this recipe, videos and home.

        """
        file = self.result_file(stage)
        if not file.exists():
            raise VidgenError(
                f"The stage {self.stage!r} needs what {stage!r} makes, which was not run with this recipe, "
                f"these videos and this home",
                move=f"Give `vidgen {stage}` first, with the same options, or `vidgen run` for all stages",
            )
        return StageResult.model_validate_json(file.read_text())


def read_spec(file: Path) -> Spec | None:
    """What is in a spec file, unless another vidgen wrote it."""
    try:
        return Spec.model_validate_json(file.read_text())
    except ValidationError:
        return None


def last_spec(home: Home, stage: str) -> Spec:
    """What the latest run of a stage in this home was asked, of those that this vidgen can read.

    Raises:
        VidgenError: It was never run there, or only by another vidgen.

    """
    files = sorted(home.runs_dir.glob(f"*/{stage}.spec.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    if not files:
        raise VidgenError(
            f"Nothing was run in this home, so there is no recipe of {stage!r} to go by",
            got=str(home.root),
            move=f"Check --home, or run vidgen {stage} there first",
        )
    found = next((spec for file in files if (spec := read_spec(file)) is not None), None)
    if found is None:
        raise VidgenError(
            f"What {stage!r} was asked in this home was written by another vidgen, which this one cannot read",
            got=str(files[0]),
            move=f"Give vidgen {stage} again: it does only what is not done yet",
        )
    # The home may have been moved or copied since.
    return found.model_copy(update={"home_dir": home.root})
