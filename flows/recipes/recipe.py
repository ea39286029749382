"""What a run is: one frozen value, made by a function `recipes/<file>.py::<function>` and named `file.function`."""

import inspect
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import Field, ValidationError, field_validator, model_validator

from data_prep.select import RULES
from data_prep.settings import DataSettings
from vidgen_core import discovery
from vidgen_core.choices import Choice, FamilyChoice, first_complaint
from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.evaluation.settings import EvaluationSettings
from vidgen_core.frozen import Frozen
from vidgen_core.registry.settings import GateSettings
from vidgen_core.sampling import Sampling
from vidgen_core.training.settings import TrainSettings

__all__ = [
    "Choice",
    "CodecChoice",
    "FamilyChoice",
    "Recipe",
    "Schedule",
    "TextChoice",
    "changed_values",
    "load",
    "names",
    "override",
]


class CodecChoice(Choice):
    """A file of `vidgen_core/codecs`."""

    package = "vidgen_core.codecs"


class TextChoice(Choice):
    """A file of `vidgen_core/encoders` that encodes captions."""

    package = "vidgen_core.encoders"


class Schedule(Frozen):
    """When a run begins by itself.

    Args:
        cron: Minute, hour, day of month, month, day of week, as "0 2 * * *" for two o'clock each night.
        timezone: Whose clock, by its name in the IANA database.

    """

    cron: str = "0 2 * * *"
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _is_a_cron(cls, cron: str) -> str:
        try:
            CronSim(cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f'{error}; a schedule is written as "0 2 * * *"') from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_a_timezone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"there is no such time zone. {did_you_mean(name, available_timezones()) or ''}")
        return name


class Recipe(Frozen):
    """A run.

    Args:
        name: `file.function`.
        model: The registered model that versions are added to.
        data: The clips wanted.
        codec, codec_training: The video autoencoder, and how it learns if it can.
        text: The text encoder.
        conditions: Scores of clips that the generator is conditioned on; they need no threshold.
        family, training: The generator, and how it learns.
        sampling: How its videos are drawn.
        evaluation: What is measured.
        gate: What a champion must have.
        schedule: When `vidgen serve` runs it.
        cores: Cores to use; 0 is all there are.

    """

    name: str
    model: str = Field(pattern=r"^[\w.-]+$")
    data: DataSettings
    codec: CodecChoice
    codec_training: TrainSettings
    text: TextChoice
    conditions: tuple[str, ...] = ()
    family: FamilyChoice
    training: TrainSettings
    sampling: Sampling = Sampling()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    schedule: Schedule = Schedule()
    cores: int = Field(default=0, ge=0)

    @field_validator("conditions")
    @classmethod
    def _are_scores(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = sorted({rule.score for rule in RULES})
        for name in names:
            if name not in known:
                raise ValueError(f"there is no score {name!r}. {did_you_mean(name, known) or ', '.join(known)}")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _asks_for_what_is_learned(self) -> Self:
        for name in self.sampling.conditions:
            if name not in self.conditions:
                raise ValueError(f"sampling asks for the condition {name!r}, which is not among conditions")
        return self


def names() -> list[str]:
    """Every recipe there is."""
    files = [file for file in discovery.names("flows.recipes") if file != "recipe"]
    return [f"{file}.{name}" for file in files for name in _functions(file)]


def load(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe `file.function` with changes such as "data.select.min_motion=0.2".

    Raises:
        VidgenError: There is no such recipe or key, or a value does not fit.

    """
    if name not in names():
        known = names()
        raise VidgenError(f"There is no recipe {name!r}", allowed=", ".join(known), move=did_you_mean(name, known))
    file, _, function = name.partition(".")
    return override(getattr(discovery.load("flows.recipes", file), function)(), changes)


def override(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with changes "key.key=value"; a value is JSON, or a text where it is none."""
    values = changed_values(recipe, changes)
    try:
        changed = Recipe.model_validate(values)
    except ValidationError as error:
        raise VidgenError(f"The recipe does not allow that: {first_complaint(error)}") from error
    for choice in (changed.codec, changed.text, changed.family):
        if any(path.partition("=")[0].split(".")[0] in ("codec", "text", "family") for path in changes):
            choice.config()
    return changed


def changed_values(recipe: Frozen, changes: Sequence[str]) -> dict[str, Any]:
    """The values of a recipe, or of another tree of settings, with changes "key.key=value"; not validated.

    Raises:
        VidgenError: A change has no value, or there is no such key.

    """
    values = recipe.model_dump(mode="json")
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise VidgenError("A change is a key and a value", got=change, move="Write --set data.frames=9")
        _set(values, recipe, path.split("."), _value(text), path)
    return values


def _set(values: dict[str, Any], at: Frozen, keys: list[str], value: object, path: str) -> None:
    key, *rest = keys
    if isinstance(at, Choice) and key not in type(at).model_fields:
        values["options"][".".join(keys)] = value
        return
    known = type(at).model_fields
    if key not in known:
        raise VidgenError(
            f"There is no key {path!r} in the recipe", allowed=", ".join(known), move=did_you_mean(key, known)
        )
    inner = getattr(at, key)
    if not rest and isinstance(inner, Choice) and isinstance(value, str):
        # Another choice, to whose options later changes may add.
        values[key] = type(inner).model_validate(value).model_dump(mode="json")
    elif not rest:
        values[key] = value
    elif isinstance(inner, Frozen):
        _set(values[key], inner, rest, value, path)
    else:
        raise VidgenError(f"{path!r} goes too deep: {key} is a value", got=inner)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _functions(file: str) -> list[str]:
    module = discovery.load("flows.recipes", file)
    found = inspect.getmembers(module, inspect.isfunction)
    return [name for name, made in found if made.__module__ == module.__name__ and name[0] != "_"]
