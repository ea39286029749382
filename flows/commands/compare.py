"""`vidgen compare`: families side by side, as one table."""

import shlex
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.commands.launch import spec_of
from flows.comparison import Comparison, Entry, named
from flows.recipes.recipe import FamilyChoice
from flows.several_shapes import check_shapes
from flows.show import duration
from flows.stage import write_value
from flows.stopping import stop
from vidgen_core import discovery
from vidgen_core.errors import VidgenError
from vidgen_core.evaluation.evaluate import Evaluation
from vidgen_core.evaluation.truth import Score
from vidgen_core.frozen import Frozen
from vidgen_core.outputs import check_out

__all__ = ["Table", "choose", "comparison_of", "markdown", "run_comparison"]

_MINUTES = 10.0
_HEADLINE = ("rfd", "rmmd", "fvd", "fvd2048_16f", "kvd", "recall", "coverage", "nearest_ratio")
_NOTHING = "-"
_LEGEND = """\
Codec, latents, captions, budget and metrics are the same for all. Distances are lower when better, with their bootstrap
interval; in the row of real clips stands their floor, one half of the real clips against the other. Shares are those of
prompts that the exact checker found shown, with 95 % Wilson intervals. Training is the number of steps times the
median of what one took; on a CPU, of the time that its cores worked for it. Calls are passes through the network to
draw one clip, counted; the pair that guidance needs is one pass on a batch twice as large. A family "after" another one
began with its trained weights: that row's training comes on top of its own."""


class Table(Frozen):
    """What a comparison came to.

    Args:
        command: What makes it again.
        date: When it was made, ISO.
        rows: One a family.

    """

    command: str
    date: str
    rows: tuple[Entry, ...]


def choose(told: str) -> tuple[FamilyChoice, ...]:
    """Families such as "flow_matching:tiny,gan"; all there are, at their size `tiny`, for "".

    Raises:
        VidgenError: There is no such family or size.

    """
    names = told.split(",") if told else discovery.names("vidgen_core.families")
    chosen = [FamilyChoice.model_validate(name.strip() if ":" in name else f"{name.strip()}:tiny") for name in names]
    for one in chosen:
        one.config()
    return tuple({(one.name, one.size): one for one in chosen}.values())


def comparison_of(  # noqa: PLR0913 - the options of a command
    recipe: str, videos: str, home_dir: Path, changes: Sequence[str], *, families: str, minutes: float | None,
    token_steps: float | None, ray: str,
) -> Comparison:  # fmt: skip
    """What is compared, checked before anything is started.

    Raises:
        VidgenError: A family or a change will not do, or there are two budgets.

    """
    if minutes is not None and token_steps is not None:
        raise VidgenError("There is one budget", got="--minutes and --token-steps", move="Drop one of them")
    if (own := next((one for one in changes if one.startswith("family")), None)) is not None:
        raise VidgenError("A change is one of all families", got=own, move="Name sizes: --families flow_matching:tiny")
    chosen = choose(families)
    spec = spec_of("prepare", recipe, videos, home_dir, changes, ray=ray, jobs="")
    for family in chosen:
        check_shapes(spec.recipe.model_copy(update={"family": family}))
    return Comparison(
        recipe=spec.recipe, families=chosen, minutes=_MINUTES if minutes is None and token_steps is None else minutes,
        token_steps=token_steps, videos=str(spec.videos), home_dir=spec.home_dir, ray=ray,
    )  # fmt: skip


def run_comparison(comparison: Comparison, changes: Sequence[str], write: Path | None = None) -> Table:
    """Train and measure what is missing, under a Prefect server of our own; the rows are kept in the home too.

    Raises:
        VidgenError: The table cannot be written there, which is seen first.

    """
    from flows.embedded import prefect_server

    if write is not None:
        check_out(write, (".md",), "The table")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    home = comparison.home
    with home.lock(), prefect_server(home):
        from flows.compare import compare

        entries = compare(comparison)
    date = datetime.now(UTC).date().isoformat()
    table = Table(command=_command(comparison, changes), date=date, rows=tuple(entries))
    write_value(comparison.file, table)
    if write is not None:
        write.write_text(markdown(table))
    return table


def markdown(table: Table) -> str:
    """The table for people: distances with intervals and floors, what the exact checker found right, and the cost."""
    done = [(row, row.evaluation) for row in table.rows if row.evaluation is not None]
    lines = ["# Families on the same clips", "", f"Made on {table.date} by `{table.command}`.", "", _LEGEND, ""]
    if done:
        lines += _grid(done)
    lines += [f"- `{row.family}` has no figures: {row.failed}" for row in table.rows if row.failed]
    return "\n".join(lines) + "\n"


def _grid(done: Sequence[tuple[Entry, Evaluation]]) -> list[str]:
    # All others are in the rows as JSON.
    names = {one.name: one.key for _, measured in done for one in measured.distances if one.kind in _HEADLINE}
    distances = list(names)
    shares = list(dict.fromkeys(name for _, measured in done for name in _shares(measured.truth)))
    head = [
        "family",
        "parameters",
        "steps",
        "token-steps",
        "training",
        *names.values(),
        *shares,
        "s/clip",
        "calls/clip",
    ]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row, measured in done:
        told = {one.name: f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]" for one in measured.distances}
        right = _shares(measured.truth)
        rows.append([
            _called(row), _large(row.parameters), f"{row.steps:,}", _large(row.token_steps),
            duration(row.training_s), *(told.get(name, _NOTHING) for name in distances),
            *(right.get(name, _NOTHING) for name in shares), f"{measured.seconds_per_clip:.3g}", f"{row.network_calls}",
        ])  # fmt: skip
    _, first = done[0]
    floors, real = {one.name: f"{one.floor:.3g}" for one in first.distances}, _shares(first.truth_real)
    rows.append([
        "real clips", *[_NOTHING] * 4, *(floors.get(name, _NOTHING) for name in distances),
        *(real.get(name, _NOTHING) for name in shares), _NOTHING, _NOTHING,
    ])  # fmt: skip
    protocols = ", ".join(f"`{name}`" for name in names)
    return [*(f"| {' | '.join(cells)} |" for cells in rows), "", *([f"Protocols: {protocols}.", ""] if names else [])]


def _called(row: Entry) -> str:
    return f"{row.family} after {row.teacher}" if row.teacher else row.family


def _large(count: float) -> str:
    unit, size = next((pair for pair in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if count >= pair[1]), ("", 1.0))
    return f"{count / size:.3g} {unit}".strip()


def _shares(score: Score | None) -> dict[str, str]:
    if score is None:
        return {}
    return {
        name: f"{100 * one.value:.0f} % [{100 * one.low:.0f}, {100 * one.high:.0f}]"
        for name, one in score.shares().items()
        if one.value is not None
    }


def _command(comparison: Comparison, changes: Sequence[str]) -> str:
    """The command, without the folders of this machine."""
    names = ",".join(named(one) for one in comparison.families)
    budget = (
        ["--minutes", f"{comparison.minutes:g}"]
        if comparison.minutes is not None
        else ["--token-steps", f"{comparison.token_steps:g}"]
    )
    settings = [part for change in changes for part in ("--set", change)]
    return shlex.join(
        ["vidgen", "compare", "--recipe", comparison.recipe.name, "--families", names, *budget, *settings]
    )
