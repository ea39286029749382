"""One of the things in a package, chosen by name: `name:size`, and changes to that size."""

from typing import Any, ClassVar

from pydantic import ValidationError, model_validator

from vidgen_core import discovery
from vidgen_core.errors import VidgenError, did_you_mean
from vidgen_core.frozen import Frozen

__all__ = ["Choice", "FamilyChoice", "first_complaint"]


class Choice(Frozen):
    """One of the things in a package: a file's name, a named size of its `Config`, and changes to that.

    Written as `name:size` where there is nothing to change.

    Args:
        name: The file.
        size: A classmethod of its `Config`; None takes the defaults.
        options: Fields of its `Config` that differ from that size.

    """

    package: ClassVar[str]

    name: str
    size: str | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        name, _, size = value.partition(":")
        return {"name": name, "size": size or None}

    def config(self) -> dict[str, Any]:
        """The whole configuration, checked against the file's `Config`; imports it, and with it torch.

        Raises:
            VidgenError: There is no such file, size or option, or a value does not fit.

        """
        made: type[Frozen] = discovery.load(self.package, self.name).Config
        full = (made() if self.size is None else self._sized(made)).model_dump(mode="json")
        for key, value in self.options.items():
            if key not in made.model_fields:
                raise VidgenError(
                    f"{self.name} has no option {key!r}",
                    allowed=", ".join(made.model_fields),
                    move=did_you_mean(key, made.model_fields),
                )
            full[key] = value
        try:
            return made.model_validate(full).model_dump(mode="json")
        except ValidationError as error:
            raise VidgenError(f"{self.name} cannot be built so: {first_complaint(error)}") from error

    def _sized(self, made: type[Frozen]) -> Frozen:
        sizes = [name for name, member in vars(made).items() if isinstance(member, classmethod) and name[0] != "_"]
        if self.size not in sizes:
            raise VidgenError(
                f"{self.name} has no size {self.size!r}",
                allowed=", ".join(sizes) or "none, leave it out",
                move=did_you_mean(str(self.size), sizes),
            )
        return getattr(made, self.size)()


class FamilyChoice(Choice):
    """A file of `vidgen_core/families`."""

    package = "vidgen_core.families"

    def whole(self) -> "FamilyChoice":
        """The same with every option written out, as a size may change in a later version."""
        return FamilyChoice(name=self.name, options=self.config())


def first_complaint(error: ValidationError) -> str:
    """The first thing that a validation found wrong, as a sentence without its full stop."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said[0].lower()}{said[1:].rstrip('.')}, got {first['input']!r}"
