"""What a captioner is told and what it answers.

A file of `data_prep/captioners` has `FRAMES` (pictures of a clip that it wants), `PROMPT` (its own), `REMOTE` (whether
it waits for another machine, and so is called from threads of the driver and not in the process that decodes),
`check(settings)` (raises a sentence where the settings cannot be; opens nothing), `digest(settings)` (what fixes a
caption besides the pictures and the prompt) and `open_captioner(settings)`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from vidgen_core.frozen import Frozen

__all__ = ["Asked", "Captioner", "CaptionerSettings", "Pictures", "Said", "ServerSettings"]

Pictures = Sequence[bytes]  # picture files (JPEG, PNG) of a clip, in the order of time
Status = Literal["ok", "truncated", "empty", "blocked", "failed", "crashed"]


class ServerSettings(Frozen):
    """The server that a remote captioner asks; nothing here changes a caption but `extra`.

    Args:
        url: Base URL, such as http://localhost:8000/v1; empty for none. Names and keys have no place in it.
        concurrency: Most requests under way.
        attempts: How often a request is tried.
        timeout_s: Longest time for one attempt, and longest pause that a server may ask for.
        pause_s: Pause before the second attempt; it doubles from attempt to attempt.
        key_variable: The environment variable that holds the API key. The key itself is written nowhere.
        echo: Whether an answer that does not name its request is asked for again ("required") or taken ("wanted").
            One that names another request is never taken.
        extra: Fields to add to a request; null takes one away. It is kept with the recipe, so no secrets.

    """

    url: str = Field("", pattern=r"^(https?://[^\s@?#]+)?$")
    concurrency: int = Field(8, ge=1, le=1024)
    attempts: int = Field(6, ge=1)
    timeout_s: float = Field(120.0, gt=0)
    pause_s: float = Field(0.5, gt=0)
    key_variable: str = Field("VIDGEN_CAPTIONER_KEY", pattern=r"^[A-Za-z_]\w*$")
    echo: Literal["required", "wanted"] = "required"
    extra: dict[str, Any] = {}

    def key(self) -> str:
        """The API key, "" when the variable is not set."""
        return os.environ.get(self.key_variable, "").strip()


class CaptionerSettings(Frozen):
    """What captions clips; there is none unless weights or a server's URL are named.

    Args:
        name: A file of `data_prep/captioners`.
        model: The model, by the captioner's own name for it; empty for its usual one.
        weights: What holds the weights: a file, a folder, or a name that the captioner can download.
        server: The server of a captioner that asks one.
        prompts: What is asked, or how a caption begins; a caption each. Empty text for the captioner's own prompt.
        frames: Pictures of a clip, from the middles of as many equal parts of it; None for as many as it is made for.
        side_px: Longest side of a picture.
        tokens: Longest caption, None for the captioner's usual one.
        always: Caption every clip, and put that before the caption beside its video; otherwise only silent clips.
        also: More captioners for the same clips; each adds its captions behind those of the one before it.
        repeat_share: There is an alarm when a larger share of the captions is one and the same.
        pair_checks: So many captions are compared with another clip's; an alarm says when they fit no better.
        alarm: Whether an alarm ends the run ("fail") or is only told ("note").

    """

    name: str = "coca"
    model: str = ""
    weights: str = ""
    server: ServerSettings = ServerSettings()
    prompts: tuple[str, ...] = Field(("",), min_length=1)
    frames: int | None = Field(None, ge=1, le=64)
    side_px: int = Field(512, ge=32)
    tokens: int | None = Field(None, ge=3)
    always: bool = False
    also: tuple["CaptionerSettings", ...] = ()
    repeat_share: float = Field(0.2, gt=0, le=1)
    pair_checks: int = Field(32, ge=0)
    alarm: Literal["fail", "note"] = "fail"

    @property
    def named(self) -> bool:
        """Whether there is a captioner."""
        return bool(self.weights or self.server.url)

    @property
    def all(self) -> tuple["CaptionerSettings", ...]:
        """It and the others, in the order of preference; () where there is none."""
        own = (self,) if self.named else ()
        return own + tuple(one for other in self.also for one in other.all)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.name != "coca" and not self.named:
            raise ValueError(f"the captioner {self.name} needs its server.url, or weights")
        if self.also and not self.named:
            raise ValueError("there are captioners in `also`, but none before them")
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError("two of the prompts are the same")
        return self


@dataclass(frozen=True)
class Asked:
    """One caption wanted.

    Attributes:
        key: Fixed by everything that fixes the caption: the clip, its pictures, the captioner, the prompt.
        pictures: The clip.
        prompt: What is asked, or how the caption begins.

    """

    key: str
    pictures: Pictures
    prompt: str = ""


@dataclass(frozen=True)
class Said:
    """What a captioner said of one clip.

    Attributes:
        text: The caption.
        status: "ok"; "truncated" when it was cut off at the longest caption; "empty" when there are no words;
            "blocked" when a filter of the server kept it back; "failed" when there was no answer; "crashed" when the
            process that looked at its source died or took too long.
        message: Why, where it is not "ok".
        model: The model as the captioner names it.
        attempts: How often it was asked.
        echoed: Whether the answer named the request that it answers; None where there is no request.
        wrong_ids: Answers that named another request, and were not taken.

    """

    text: str
    status: Status
    message: str = ""
    model: str = ""
    attempts: int = 1
    echoed: bool | None = None
    wrong_ids: int = 0


class Captioner(Protocol):
    """An open captioner. A remote one is called from several threads at once."""

    def caption(self, asked: Sequence[Asked]) -> list[Said]:
        """One answer each, in the same order."""
        ...

    def pick(self, clip: Pictures, captions: tuple[str, str]) -> int | None:
        """Which of two captions describes the clip, 0 or 1; None when it cannot tell."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...
