"""Any OpenAI-compatible endpoint with eyes: vLLM, SGLang, llama.cpp, Ollama or a paid service.

A clip goes as several JPEG pictures and a prompt. **Which answer belongs to which request** is not left to the order of
things: each attempt has an id of its own, six hex digits made of the caption's key and the attempt's number. The model
is asked to begin its answer with `[id 3fa9c1]`, since only what the model itself wrote shows that this text was written
for this prompt, through any gateway, cache, queue or bug between; the request's X-Request-Id holds it too, which vLLM
repeats in its answer's `id`. An answer that names another id is never taken; one that names none is asked for again,
and taken only with `server.echo=wanted`. The id cannot see pictures swapped inside the server; `pick` can.
"""

import base64
import io
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from data_prep.captioners._chat import Answer, Chat, NoAnswer
from data_prep.captioners._contract import Asked, CaptionerSettings, Pictures, Said
from vidgen_core import digests
from vidgen_core.errors import VidgenError, did_you_mean

__all__ = ["FRAMES", "PROMPT", "REMOTE", "Endpoint", "check", "digest", "open_captioner"]

FRAMES = 4
REMOTE = True
_VERSION = 1
_TOKENS = 200
_ID_TOKENS = 16
_MOST_EMPTY = 2
_TRY_OUTS = 3
PROMPT = (
    "Describe this video in one to three sentences: what is seen, where, what moves and how, and how the camera moves. "
    "Say only what the pictures show, and do not speak of pictures or frames."
)
_AGAIN = "Then give the same command again: what was captioned is not asked for again"
_ORDER = "The pictures are frames of one video, in the order of time. "
_ECHO = "\nBegin your answer with [id {tag}] and go on behind it."
_PICK = (
    "Which of these two captions describes the video? Answer with its number, 1 or 2, and nothing else.\n"
    "1. {}\n2. {}"
)  # fmt: skip
_ID = "vidgen-"
_OTHER_TAG = re.compile(r"\bid\W{0,3}[0-9a-f]{6}\b", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


def check(settings: CaptionerSettings) -> None:
    """Whether the settings can be an endpoint's.

    Raises:
        VidgenError: There is no URL or no model, or the key is none.

    """
    if not settings.server.url:
        raise VidgenError(
            "The captioner endpoint asks a server, and none is named", got=f"weights={settings.weights!r}",
            move="Set data.captioner.server.url, such as http://localhost:8000/v1",
        )  # fmt: skip
    if not (settings.server.key().isascii() and settings.server.key().isprintable()):
        raise VidgenError(
            "The captioner's key has characters that no request can hold",
            move=f"Put the key as it was issued into the environment variable {settings.server.key_variable}",
        )
    if not settings.model:
        raise VidgenError(
            "The captioner endpoint needs the name of a model, which is part of what a caption is kept under",
            move=f"Set data.captioner.model to a name that {settings.server.url.rstrip('/')}/models lists",
        )


def digest(settings: CaptionerSettings) -> str:
    """Of the model's name, the length and the fields added to requests; the place of the server changes no caption."""
    tokens = settings.tokens or _TOKENS
    return digests.of_value(["endpoint", _VERSION, settings.model, tokens, settings.server.extra])


def open_captioner(settings: CaptionerSettings) -> "Endpoint":
    """A server that has just captioned a gray picture.

    Raises:
        VidgenError: It cannot be reached, or does not take the key, the model, so many pictures or the request's id.

    """
    endpoint = Endpoint(settings)
    try:
        endpoint.try_out()
    except VidgenError:
        endpoint.close()
        raise
    return endpoint


class Endpoint:
    """Pictures to captions over HTTP.

    Args:
        settings: The server, the model and what to ask.

    """

    def __init__(self, settings: CaptionerSettings) -> None:
        self._settings, self._server = settings, settings.server
        self._chat = Chat(settings.server)
        self._lock, self._lost_in_a_row = threading.Lock(), 0
        self._given_up_after = max(16, 2 * settings.server.concurrency)

    def caption(self, asked: Sequence[Asked]) -> list[Said]:
        """One answer each.

        Raises:
            VidgenError: The server takes no request any more, or has not answered for many clips in a row.

        """
        return [self._described(one) for one in asked]

    def pick(self, clip: Pictures, captions: tuple[str, str]) -> int | None:
        """The caption that the model chooses in both orders; None when it does not, or there is no answer."""
        first = self._chosen(clip, captions)
        second = self._chosen(clip, (captions[1], captions[0]))
        return first if first is not None and second == 1 - first else None

    def close(self) -> None:
        """End what is under way."""
        self._chat.close()

    def try_out(self) -> None:
        """Caption gray pictures, as many as a clip has.

        Raises:
            VidgenError: It does not work, and this says why.

        """
        gray = io.BytesIO()
        Image.new("RGB", (64, 64), (128, 128, 128)).save(gray, "JPEG")
        pictures = [gray.getvalue()] * (self._settings.frames or FRAMES)
        try:
            said = self._tried("vidgen try-out", pictures, PROMPT, min(_TRY_OUTS, self._server.attempts))
        except NoAnswer as error:
            raise self._unusable(error) from error
        if said.status == "failed":
            raise VidgenError(
                f"The captioner's server gives no answer that can be matched with its request: {said.message}",
                got=f"{self._server.url}, model {self._settings.model}",
                move="Ask a model that follows instructions better, or take answers without an id: "
                "--set data.captioner.server.echo=wanted",
            )

    def _described(self, asked: Asked) -> Said:
        try:
            return self._answered(asked.key, asked.pictures, asked.prompt)
        except NoAnswer as error:
            # A key that worked a moment ago still does: 403 is some servers' word for a picture that a filter held.
            blocked = error.kind == "blocked" or error.status == 403
            attempts = self._server.attempts if error.kind == "again" else 1
            return Said("", "blocked" if blocked else "failed", error.message, self._settings.model, attempts)

    def _chosen(self, clip: Pictures, captions: tuple[str, str]) -> int | None:
        try:
            said = self._answered(digests.of_value(["pick", *captions]), clip, _PICK.format(*captions))
        except NoAnswer:
            return None
        found = re.search(r"\b[12]\b", said.text)
        return int(found.group()) - 1 if found else None

    def _answered(self, key: str, pictures: Pictures, text: str) -> Said:
        """An answer, or the reason why this clip has none; the run ends where no clip can have one."""
        try:
            said = self._tried(key, pictures, text, self._server.attempts)
        except NoAnswer as error:
            if error.kind in ("place", "quota") or error.status == 401:
                raise self._unusable(error) from error
            self._count(lost=error if error.kind == "again" else None)
            raise
        self._count(lost=None)
        return said

    def _tried(self, key: str, pictures: Pictures, text: str, attempts: int) -> Said:
        """An answer that can be taken, after as many attempts as it needs; "failed" when none named its request.

        Raises:
            NoAnswer: There was none, for the reason of the last attempt.

        """
        content = [{"type": "image_url", "image_url": {"url": _data_uri(picture)}} for picture in pictures]
        text = _ORDER + text if len(pictures) > 1 else text
        wrong_ids = empty = 0
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            tag = digests.of_value([key, attempt], 6)
            try:
                said = self._once(content, text, tag)
            except NoAnswer as error:
                if error.kind != "again" or last:
                    raise
            else:
                wrong_ids += said.wrong_ids
                empty += said.status == "empty"
                if last or said.status in ("ok", "truncated", "blocked") or empty == _MOST_EMPTY:
                    return replace(said, attempts=attempt, wrong_ids=wrong_ids)
            # Up to twice as long, so that requests that were refused together do not come together again.
            self._chat.pause(self._server.pause_s * 2 ** (attempt - 1) * (1 + int(tag, 16) / 16**6))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, content: list[dict[str, Any]], text: str, tag: str) -> Said:
        settings = self._settings
        words = {"type": "text", "text": text + _ECHO.format(tag=tag)}
        body = {
            "model": settings.model,
            "messages": [{"role": "user", "content": [*content, words]}],
            "max_tokens": (settings.tokens or _TOKENS) + _ID_TOKENS,
            "temperature": 0,
        } | self._server.extra
        answer = self._chat.complete({name: value for name, value in body.items() if value is not None}, _ID + tag)
        said = _read(answer, tag, required=self._server.echo == "required")
        return replace(said, model=answer.model or settings.model)

    def _count(self, *, lost: NoAnswer | None) -> None:
        """One more clip that got its answer, or did not although it was asked for again and again."""
        with self._lock:
            self._lost_in_a_row = self._lost_in_a_row + 1 if lost else 0
            if lost and self._lost_in_a_row >= self._given_up_after:
                raise VidgenError(
                    f"The captioner's server left {self._lost_in_a_row} clips in a row unanswered: {lost.message}",
                    got=self._server.url,
                    move=_AGAIN,
                )

    def _unusable(self, error: NoAnswer) -> VidgenError:
        """Why no request will succeed, and what to do about it."""
        url, variable = self._server.url, self._server.key_variable
        if error.kind == "key":
            state = "is set" if self._server.key() else "is not set"
            move = f"Put a key for this server into the environment variable {variable}, which {state}"
            return VidgenError(f"The captioner's server does not take the key: {error.message}", got=url, move=move)
        if error.kind == "quota":
            move = f"Raise its limit. {_AGAIN}"
            return VidgenError(f"The captioner's account is used up: {error.message}", got=url, move=move)
        if error.kind == "place":
            return self._misplaced(error)
        if error.kind == "again":
            move = "Start it, or set data.captioner.server.url to where it is"
            return VidgenError(f"The captioner's server does not answer: {error.message}", got=url, move=move)
        return VidgenError(
            f"The captioner's server refuses {self._settings.frames or FRAMES} pictures and a prompt: {error.message}",
            got=f"{url}, model {self._settings.model}",
            move="Choose a model that sees pictures, set data.captioner.frames to as many as it takes, or change "
            "fields of the request with data.captioner.server.extra",
        )

    def _misplaced(self, error: NoAnswer) -> VidgenError:
        models = self._chat.models()
        if not models or self._settings.model in models:
            return VidgenError(
                f"There are no chat completions at this URL: {error.message}", got=self._server.url,
                move="Set data.captioner.server.url to the base URL, which usually ends with /v1",
            )  # fmt: skip
        move = did_you_mean(self._settings.model, models) or "Set data.captioner.model to one of them"
        return VidgenError(
            f"The captioner's server has no model {self._settings.model!r}: {error.message}",
            got=self._server.url, allowed=", ".join(models[:20]), move=move,
        )  # fmt: skip


def _data_uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _read(answer: Answer, tag: str, *, required: bool) -> Said:
    """What an answer says; "failed" where it may belong to another request."""
    text = _THOUGHT.sub("", answer.text or "").strip()
    own = re.compile(rf"[\[(*`<\s]*(?:\bid\W{{0,3}})?\b{tag}\b[\])*`:.,\s>|-]*", re.IGNORECASE)
    echoed = bool(own.search(text)) or f"{_ID}{tag}" in answer.ids
    if not echoed and (_OTHER_TAG.search(text[:80]) or _ID in answer.ids):
        return Said("", "failed", "The answer names another request", echoed=False, wrong_ids=1)
    if answer.refusal or answer.finish == "content_filter":
        message = answer.refusal[:300] or "Kept back by a filter (finish_reason content_filter)"
        return Said("", "blocked", message, echoed=echoed)
    text = " ".join(own.sub(" ", text).split())
    if not text:
        return Said("", "empty", f"There are no words in the answer (finish_reason {answer.finish})", echoed=echoed)
    if not echoed and required:
        return Said("", "failed", "The answer does not name its request", echoed=False)
    if answer.finish == "length":
        return Said(text, "truncated", "Cut off at the longest caption (finish_reason length)", echoed=echoed)
    return Said(text, "ok", echoed=echoed)
