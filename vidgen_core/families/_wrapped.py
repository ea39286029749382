"""Families inside of families: what a hybrid may wrap, and how it is chosen."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import AfterValidator

from vidgen_core import discovery
from vidgen_core.choices import FamilyChoice
from vidgen_core.errors import VidgenError
from vidgen_core.interfaces import Family, Space

__all__ = ["Capability", "build", "able", "whole"]

Capability = Literal["has_likelihood", "has_encoder", "has_denoiser"]
_PACKAGE = "vidgen_core.families"


def whole(capability: Capability) -> AfterValidator:
    """What makes a choice of a family whole: checked for a capability, and with every option written out.

    What was trained must be built as it was.

    Raises:
        VidgenError: There is no such family or size, or it lacks the capability; the message names those that have it.

    """

    def made_whole(choice: FamilyChoice) -> FamilyChoice:
        made = choice.whole()
        if not getattr(_class(choice.name), capability):
            raise VidgenError(
                f"{choice.name} cannot be wrapped here: {_LACKS[capability]}",
                got=choice.name,
                allowed=", ".join(able(capability)),
                move="Choose another family, as name:size",
            )
        return made

    return AfterValidator(made_whole)


def able(capability: Capability) -> list[str]:
    """The families that have a capability."""
    return [name for name in discovery.names(_PACKAGE) if getattr(_class(name), capability)]


def build(choice: FamilyChoice, space: Space) -> Any:
    """The wrapped family for samples and text of one space."""
    config = discovery.load(_PACKAGE, choice.name).Config.model_validate(choice.config())
    return config.build(space)


_LACKS: dict[Capability, str] = {
    "has_likelihood": "it has no exact likelihood",
    "has_encoder": "it does not encode videos as codes that a decoder draws from",
    "has_denoiser": "it does not predict data from noise",
}


def _class(name: str) -> type[Family]:
    module = discovery.load(_PACKAGE, name)
    found: Callable[[Any], bool] = lambda one: isinstance(one, type) and issubclass(one, Family)  # noqa: E731
    return next(one for one in vars(module).values() if found(one) and one.__module__ == module.__name__)
