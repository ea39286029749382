"""`vidgen plan train`: parameters, operations, memory and time of a recipe's trainings, before a device is touched."""

import json
from functools import partial

from flows.commands.text import aligned
from flows.recipes.recipe import Recipe
from flows.show import duration
from vidgen_core import discovery
from vidgen_core.encoders._open import open_encoder
from vidgen_core.interfaces import Space
from vidgen_core.scalars import Scalar
from vidgen_core.training.accelerators import choose
from vidgen_core.training.forecast import Forecast, forecast

__all__ = ["plan_train"]

_STATED = (
    "A time is the operations of a step over the assumed share of the peak, or that of starting them one by one where "
    "this is longer; checkpoints, held-out passes and loading are not in it."
)
_MAIN_ONLY = "It is for clips of the main shape; others take as much more or less as they have tokens."


def plan_train(recipe: Recipe, on: list[str], *, as_json: bool) -> str:
    """The plan as text; nothing is read but the recipe.

    Args:
        recipe: The run.
        on: Names of accelerators.
        as_json: For programs.

    Raises:
        VidgenError: There is no such accelerator, or a clip does not fit the codec.

    """
    made = _forecasts(recipe, on)
    if as_json:
        return json.dumps({name: one.model_dump(mode="json") for name, one in made.items()}, indent=1)
    stated = [_STATED, _MAIN_ONLY] if recipe.data.shapes else [_STATED]
    return "\n\n".join([*(_told(name, one) for name, one in made.items()), *stated])


def _forecasts(recipe: Recipe, on: list[str]) -> dict[str, Forecast]:
    """Of the codec, where it can learn, and of the generator."""
    data, forecasts = recipe.data, {}
    config = discovery.load("vidgen_core.codecs", recipe.codec.name).Config.model_validate(recipe.codec.config())
    codec = config.build()
    channels, frames, height, width = codec.latent_shape(data.frames, data.height, data.width)
    if codec.trainable:
        settings = recipe.codec_training
        accelerators = choose(on, threads=settings.threads_per_worker)
        pixels = (3, data.frames, data.height, data.width)
        forecasts[f"codec {recipe.codec.name}"] = forecast(config.build, pixels, (0, 0), settings, accelerators)
    encoder = open_encoder(recipe.text.name, recipe.text.config())
    # How scores are spread is known with the data; it changes no size.
    scalars = tuple(Scalar(name=name, quantiles=(0.0, 1.0)) for name in recipe.conditions)
    space = Space(channels=channels, frames=frames, height=height, width=width, text_dim=encoder.dim, scalars=scalars)
    family = discovery.load("vidgen_core.families", recipe.family.name).Config.model_validate(recipe.family.config())
    settings = recipe.training
    forecasts[f"generator {recipe.family.name}"] = forecast(
        partial(family.build, space), space.shape, (encoder.tokens, encoder.dim), settings,
        choose(on, threads=settings.threads_per_worker),
    )  # fmt: skip
    return forecasts


def _told(name: str, made: Forecast) -> str:
    settings = made.settings
    players = ", ".join(f"{player} {count:,}" for player, count in made.players.items())
    lines = [
        f"{name}: {made.parameters:,} parameters" + (f" ({players})" if len(made.players) > 1 else ""),
        f"a step: {settings.batch} samples, {settings.batch * made.tokens:,} tokens, {_operations(made.step_flops)}; "
        f"the run: {settings.steps:,} steps, {_operations(made.step_flops * settings.steps)}",
    ]
    rows: list[tuple[str | int, ...]] = [("on", "products in", "peak", "assumed", "a step", "the run", "memory", "of")]
    for one in made.on:
        peak = one.accelerator.peak_flops(half=one.half)
        rows.append((
            f"{settings.workers} x {one.accelerator.name}", "bf16" if one.half else "fp32",
            f"{_operations(peak)}/s", f"{one.accelerator.assumed_mfu:.0%}", _duration(one.step_s),
            _duration(one.run_s), _bytes(one.memory.total), f"{one.accelerator.memory_gb:.0f} GB",
        ))  # fmt: skip
    return "\n".join([*lines, aligned(rows), *_memory(made)])


def _memory(made: Forecast) -> list[str]:
    """What the memory goes to on the first device, and what would make it fit where it does not."""
    lines, first = [], made.on[0]
    held = [(name, value) for name, value in first.memory.model_dump().items() if value is not None]
    lines.append(f"memory on {first.accelerator.name}: " + ", ".join(f"{name} {_bytes(value)}" for name, value in held))
    if first.memory.activations is None:
        lines.append("Activations are not in it: they hang on what this learner draws.")
    for one in made.on:
        if not one.fits and one.accumulate:
            lines.append(f"Too large for {one.accelerator.name}: set training.accumulate={one.accumulate}.")
        elif not one.fits:
            lines.append(f"Too large for {one.accelerator.name}, even one sample at a time: train a smaller size.")
    return lines


def _duration(seconds: float) -> str:
    """A duration from microseconds to days."""
    if seconds < 1.0:
        return f"{1e3 * seconds:.3g} ms"
    return duration(seconds) if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _operations(flops: float) -> str:
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}"
    return f"{flops / 1e6:.3g} MFLOP"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
