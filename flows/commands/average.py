"""`vidgen average`: the generator with an average of its weights whose length is chosen after training."""

import getpass
from pathlib import Path

from flows.home import Home
from flows.spec import Spec, last_spec
from flows.stages.train import job_of, open_tracker
from vidgen_core import weights
from vidgen_core.applications import generator
from vidgen_core.outputs import check_new_folder
from vidgen_core.registry.models import register
from vidgen_core.registry.promotion import challenge
from vidgen_core.training.power_averages import reconstruct
from vidgen_core.training.store import store_at

__all__ = ["write_average"]


def write_average(home: Home, length: float, out: Path, *, registered: bool = False) -> str:
    """Write the generator of the latest training in a home, with another average, to a new folder.

    Args:
        home: Where it was trained.
        length: Relative length of the average.
        out: The folder, which `vidgen sample --model` opens.
        registered: Whether it also becomes a version of the model, its challenger.

    Raises:
        VidgenError: The folder is there or cannot be made; nothing was trained in the home, the run kept no snapshots,
            or no average has this length.

    """
    check_new_folder(out)
    spec = last_spec(home, "train")
    model_dir = Path(spec.result("train").facts["model_dir"])
    # Of what was trained; the latents may be those of later clips by now.
    job = job_of(spec).model_copy(update={"work_dir": home.training_dir / model_dir.name})
    made = reconstruct(store_at(job.averages), length)
    # What no player owns, such as running statistics, is that of the end of the run.
    state, card = weights.load(job.final_dir)
    family_dir = out.with_name(f".{out.name}.family")
    weights.save(family_dir, {**state, **made.weights}, {**card, "ema_length": length})
    told = generator.Card.model_validate_json((model_dir / "generator.json").read_text())
    told = told.model_copy(update={"facts": {**told.facts, "ema_length": length}})
    try:
        digest = generator.assemble(out, told, family_dir=family_dir, codec_dir=model_dir / "codec")
    finally:
        weights.remove(family_dir)
    said = (
        f"{out}: average of relative length {length:g}, from {made.parts} snapshots; its profile is off by "
        f"{made.error:.2%}; digest {digest}"
    )
    return f"{said}\n{_registered(spec, length, out, digest)}" if registered else said


def _registered(spec: Spec, length: float, folder: Path, digest: str) -> str:
    """Make the generator a version of the run's model; nothing has measured it, so it cannot be the champion yet."""
    tracker = open_tracker(spec)
    tags = {
        "vidgen.release": spec.result("train").fact("release"), "vidgen.recipe": spec.recipe.name,
        "vidgen.run_key": spec.run_key, "vidgen.ema_length": f"{length:g}",
    }  # fmt: skip
    version = register(tracker, spec.recipe.model, folder, model=digest, tags=tags)
    why = f"An average of relative length {length:g}, which was not measured."
    alias = challenge(tracker.uri, version, why, who=getpass.getuser())
    tracker.finish()
    return f"{version.name} version {version.version} @{alias}: vidgen sample --model {version.name}@{alias}"
