"""Trained weights that a recipe's family learns from: found and checked before anything is started."""

from pathlib import Path
from typing import Any

from flows.home import Home
from flows.recipes.recipe import FamilyChoice, Recipe
from vidgen_core import discovery
from vidgen_core.errors import VidgenError

__all__ = ["taught", "teacher_of", "with_teacher"]


def teacher_of(family: FamilyChoice) -> FamilyChoice | None:
    """The family that one learns from, with every option written out; None where it takes no trained weights."""
    config = family.config()
    return FamilyChoice.model_validate(config["teacher"]) if "teacher_weights" in config else None


def taught(family: FamilyChoice, folder: str) -> FamilyChoice:
    """The family as one that learns from the generator in this folder."""
    return family.model_copy(update={"options": {**family.options, "teacher_weights": folder}})


def with_teacher(recipe: Recipe, home: Home) -> Recipe:
    """The recipe with its teacher's folder in place of a name in the registry; without a teacher, as it is.

    Raises:
        VidgenError: There is no such folder or model, or it is not what the recipe says of it.

    """
    told = recipe.family.options.get("teacher_weights")
    if not told:
        return recipe
    from vidgen_core.families._teacher import check_teacher

    config: Any = discovery.load("vidgen_core.families", recipe.family.name).Config.model_validate(
        recipe.family.config()
    )
    folder = Path(told).expanduser()
    if not folder.exists() and ("@" in told or told.rpartition("/")[2].isdigit()):
        from vidgen_core.registry.models import fetch

        folder = fetch(home.mlflow_uri, told, home.cache_dir)
    if not folder.exists():
        raise VidgenError(
            "There is no trained teacher there",
            got=told,
            allowed="the folder of a generator, or a registered model as name@champion or name/number",
            move="Check family.teacher_weights; or drop it to learn without a teacher",
        )
    check_teacher(folder, config.teacher)
    return recipe.model_copy(update={"family": taught(recipe.family, str(folder.resolve()))})
