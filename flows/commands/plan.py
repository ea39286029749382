"""`vidgen plan prepare`: what would be done, before it is done."""

from data_prep.plan import Plan, Step, plan
from flows.commands.text import aligned
from flows.home import Home
from flows.recipes.recipe import Recipe
from flows.spec import last_spec
from vidgen_core.errors import VidgenError

__all__ = ["plan_prepare"]


def plan_prepare(home: Home, videos: str, recipe: Recipe, *, as_json: bool) -> str:
    """The plan as text; nothing is decoded or written."""
    made = plan(videos, home.tables(), recipe.data, latents=_latents(home))
    return made.model_dump_json(indent=1) if as_json else _told(made)


def _latents(home: Home) -> str:
    """The table of the home's latest `vidgen latents`; "" where there is none."""
    try:
        return str(last_spec(home, "latents").result("latents").facts["latents"])
    except VidgenError:
        return ""


def _told(made: Plan) -> str:
    rows: list[tuple[str | int, ...]] = [
        ("step", "of", "new", "again", "there", "to remove", "not known yet", "to decode")
    ]
    for step in made.steps:
        again = sum(step.stale.values())
        size = f"{step.decode_bytes / 1e6:,.1f} MB" if step.decode_bytes else ""
        rows.append((step.name, step.of, step.new, again, step.reused, step.removed, step.unknown, size))
    apart = [
        f"{made.copies} are copies" if made.copies else "",
        f"{made.forgotten} taken down" if made.forgotten else "",
    ]
    files = f"{made.files:,} files" + "".join(f", {one}" for one in apart if one)
    return "\n".join([files, aligned(rows), *(line for step in made.steps for line in _remarks(step))])


def _remarks(step: Step) -> list[str]:
    lines = [f"{step.name}: {count:,} {step.of} again, because of: {why}" for why, count in step.stale.items()]
    if step.name == "analyze" and (step.new or step.stale):
        lines.append("What these sources bring to the later steps is known when they have been analyzed.")
    return lines
