"""Any folder of real videos: `vidgen run --recipe real.tiny --videos DIR`."""

from flows.recipes import shapes
from flows.recipes.recipe import Recipe
from vidgen_core.registry.settings import GateSettings

__all__ = ["tiny"]


def tiny() -> Recipe:
    """The whole line over real videos at 32 x 32 pixels; captions are taken where there are some.

    A few minutes of training teach colors and grounds, not things: it shows that the line holds on these videos.
    """
    recipe = shapes.demo()
    select = recipe.data.select.model_copy(update={"need_caption": False, "min_keep_area": 0.3})
    shorter = {"steps": 200}
    return recipe.model_copy(
        update={
            "name": "real.tiny",
            "model": "real",
            "data": recipe.data.model_copy(update={"select": select}),
            "codec_training": recipe.codec_training.model_copy(update=shorter),
            "training": recipe.training.model_copy(update=shorter),
            "gate": GateSettings(),
        }
    )
