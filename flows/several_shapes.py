"""Whether a recipe's codec and family take every shape of clips that it asks for, before anything is started."""

from flows.recipes.recipe import Recipe
from vidgen_core import discovery
from vidgen_core.errors import VidgenError

__all__ = ["check_shapes"]


def check_shapes(recipe: Recipe) -> None:
    """Nothing happens for clips of one shape; otherwise torch is imported, and learners are built without values.

    Raises:
        VidgenError: The codec does not divide a shape, or the family learns one shape or cannot be built for another.

    """
    if not recipe.data.shapes:
        return
    import torch

    from vidgen_core.interfaces import Learner, Space

    with torch.device("meta"):
        codec = discovery.load("vidgen_core.codecs", recipe.codec.name).Config.model_validate(recipe.codec.config())
        family = discovery.load("vidgen_core.families", recipe.family.name).Config.model_validate(
            recipe.family.config()
        )
        built = codec.build()
        for made in recipe.data.each_shape():
            channels, frames, height, width = built.latent_shape(made.frames, made.height, made.width)
            space = Space(channels=channels, frames=frames, height=height, width=width, text_dim=1)
            learner: Learner = family.build(space)
            if not learner.any_shape:
                raise VidgenError(
                    f"{recipe.family.name} learns clips of one shape",
                    got=", ".join(f"{one.frames}x{one.height}x{one.width}" for one in recipe.data.each_shape()),
                    move="Choose one that learns several, such as --set family=flow_matching:tiny; or drop data.shapes",
                )
