"""One request to an OpenAI-compatible chat-completions server: sent once, and its answer or its refusal understood.

At most `concurrency` requests are under way, whatever number of threads calls; a pause that the server asks for
holds all of them. An attempt has one deadline for its whole answer, and an answer that is far too long is not read.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from data_prep.captioners._contract import ServerSettings

__all__ = ["Answer", "Chat", "NoAnswer"]

_MOST_BYTES = 4 * 2**20
_AGAIN = {408, 409, 425, 429}
_FILTERS = ("content_filter", "content_policy", "responsibleai", "moderation")
Kind = Literal["again", "refused", "blocked", "key", "place", "quota"]


@dataclass(frozen=True)
class Answer:
    """A chat completion.

    Attributes:
        text: What the model said; None where it said nothing.
        finish: Why it stopped: "stop", "length", "content_filter" or a word of the server's own.
        refusal: What the model said instead of an answer.
        model: The model by the server's own name for it.
        ids: Where a server repeats a request's X-Request-Id: the answer's `id` (vLLM) and its header of that name.

    """

    text: str | None
    finish: str
    refusal: str
    model: str
    ids: str


class NoAnswer(Exception):  # noqa: N818 - an outcome of a request, which the caller handles
    """A request without an answer.

    Attributes:
        kind: "again" when the same request may succeed later; "refused" and "blocked" when this request never will;
            "key", "place" and "quota" when no request will.
        status: HTTP status; 0 where there was none.

    """

    def __init__(self, message: str, kind: Kind = "again", status: int = 0) -> None:
        super().__init__(message)
        self.message, self.kind, self.status = message, kind, status


class Chat:
    """A server.

    Args:
        server: Where it is and how patient to be.

    """

    def __init__(self, server: ServerSettings) -> None:
        self._server, self._key = server, server.key()
        self._stop, self._slots = threading.Event(), threading.BoundedSemaphore(server.concurrency)
        self._not_before_s = 0.0
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=server.timeout_s,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=server.concurrency),
        )

    def complete(self, body: Mapping[str, Any], request_id: str) -> Answer:
        """Send a request once; any thread may.

        Raises:
            NoAnswer: There was none.

        """
        self.pause(self._not_before_s - time.monotonic())
        with self._slots:
            response, content = self._sent("POST", "chat/completions", body, request_id)
        if response.status_code != 200:
            raise self._refused(response, content)
        return _answer(response, content)

    def models(self) -> list[str]:
        """The models that the server names, [] when it does not say."""
        try:
            response, content = self._sent("GET", "models", None, "models")
            listed = json.loads(content)["data"] if response.status_code == 200 else []
            return [str(one["id"]) for one in listed]
        except (NoAnswer, ValueError, LookupError, TypeError, RecursionError):
            return []

    def pause(self, pause_s: float) -> None:
        """Wait, unless the server is being closed."""
        if pause_s > 0:
            self._stop.wait(pause_s)
        if self._stop.is_set():
            raise NoAnswer("The captioner was closed", "refused")

    def close(self) -> None:
        """No more requests; threads that pause go on at once and find it closed."""
        self._stop.set()
        self._client.close()

    def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None, request_id: str
    ) -> tuple[httpx.Response, bytes]:
        limit_s = self._server.timeout_s
        deadline_s = time.monotonic() + limit_s
        url, content = f"{self._server.url.rstrip('/')}/{path}", b""
        try:
            with self._client.stream(method, url, json=body, headers={"X-Request-Id": request_id}) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline_s:
                        raise NoAnswer(f"The answer was not whole within {limit_s:g} s")
                    if len(content) > _MOST_BYTES:
                        raise NoAnswer(f"The answer is longer than {_MOST_BYTES} bytes", status=response.status_code)
        except httpx.TimeoutException as error:
            raise NoAnswer(f"No answer within {limit_s:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise NoAnswer(f"The connection broke: {self._plain(error)}") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NoAnswer(f"This is no URL: {self._plain(error)}", "place") from error
        return response, content

    def _refused(self, response: httpx.Response, content: bytes) -> NoAnswer:
        """What an answer that is no 200 means."""
        status, (message, codes) = response.status_code, _error(content)
        message = self._plain(f"HTTP {status}: {message}" if message else f"HTTP {status}")
        if status in (402,) or "insufficient_quota" in codes:
            return NoAnswer(message, "quota", status)
        if status in _AGAIN or status >= 500:
            self._hold(response.headers.get("Retry-After", ""))
            return NoAnswer(message, "again", status)
        if any(word in codes for word in _FILTERS):
            return NoAnswer(message, "blocked", status)
        # 403 is a refused key to most servers, and a blocked picture to some.
        kinds: dict[int, Kind] = {401: "key", 403: "key", 404: "place", 405: "place"}
        return NoAnswer(message, "place" if status < 400 else kinds.get(status, "refused"), status)

    def _hold(self, retry_after: str) -> None:
        """Nobody asks before the time that the server named, at most `timeout_s` from now."""
        try:
            after_s = float(retry_after)
        except ValueError:
            try:
                after_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
            except ValueError:
                return
        if after_s > 0:  # also false for "nan"
            self._not_before_s = max(self._not_before_s, time.monotonic() + min(after_s, self._server.timeout_s))

    def _plain(self, error: object) -> str:
        """One short line without the key, which some servers repeat."""
        text = " ".join(_storable(error).split())
        return (text.replace(self._key, "(the key)") if self._key else text)[:300]


def _answer(response: httpx.Response, content: bytes) -> Answer:
    try:
        whole = json.loads(content)
        choice = whole["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        if isinstance(text, list):
            text = "".join(str(part.get("text", "")) for part in text)
        if not (text is None or isinstance(text, str)):
            raise TypeError("content is no text")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NoAnswer(f"The answer is no chat completion: {type(error).__name__}", status=200) from error
    ids = f"{whole.get('id', '')} {response.headers.get('X-Request-Id', '')}"
    finish = str(choice.get("finish_reason") or "stop")
    text = text if text is None else _storable(text)
    return Answer(text, finish, _storable(refusal or ""), _storable(whole.get("model") or ""), ids)


def _storable(value: object) -> str:
    """JSON can spell half of a surrogate pair, which is no text to a table."""
    return str(value).encode(errors="replace").decode()


def _error(content: bytes) -> tuple[str, str]:
    """Message and codes of an error's body, as far as there are any."""
    try:
        error = json.loads(content)
        error = error.get("error", error)
        if isinstance(error, str):
            return error, ""
        codes = [error.get("code"), error.get("type"), (error.get("innererror") or {}).get("code")]
        return str(error.get("message") or error.get("detail") or ""), " ".join(map(str, codes)).lower()
    except (ValueError, AttributeError, RecursionError):
        return content[:200].decode(errors="replace"), ""
