"""The base of every settings value. Apart from `interfaces`, so that reading settings never imports torch."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen", "kind_or"]


class Frozen(BaseModel):
    """A validated value: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def kind_or(default: str) -> Callable[[Any], str]:
    """What tells members of a union apart: their `kind`, or a default one where only other fields are given."""

    def kind(value: Any) -> str:
        return str(value.get("kind", default) if isinstance(value, dict) else value.kind)

    return kind
