"""The one kind of error a user sees: what happened, what was given, what is allowed, the next move."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["VidgenError", "did_you_mean"]


class VidgenError(Exception):
    """A mistake that the user can mend; the command line prints it as sentences, never as a traceback.

    Args:
        what: What went wrong, one sentence without its full stop.
        got: The value that caused it.
        allowed: What would have been accepted.
        move: The next thing to do or to type.
        exit_code: What the command line ends with.

    """

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: object = None,
        move: str | None = None,
        exit_code: int = 2,
    ) -> None:
        self.what, self.got, self.allowed, self.move, self.exit_code = what, got, allowed, move, exit_code
        super().__init__(what, got, allowed, move)

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call __init__ with positional arguments, and errors do cross from Ray's workers.
        return (_rebuilt, (self.what, self.got, self.allowed, self.move, self.exit_code))

    def __str__(self) -> str:
        parts = [self.what]
        if self.got is not None:
            parts.append(f"Got {_short(self.got)}")
        if self.allowed is not None:
            parts.append(f"Allowed: {self.allowed}")
        if self.move is not None:
            parts.append(self.move)
        return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The closest known name as a question ("Did you mean 'x'?"), or None when nothing is close."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else None


def _rebuilt(what: str, got: object, allowed: object, move: str | None, exit_code: int) -> VidgenError:
    return VidgenError(what, got=got, allowed=allowed, move=move, exit_code=exit_code)


def _short(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
