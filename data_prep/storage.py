"""Places by URI: what is needed of a store of objects, with patience, and with a sentence for what goes wrong.

The door to fsspec. Who we are comes from the standard environment and configuration files of each store alone; an
address that carries a password is refused, so none can come into a recipe, a log or a table.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec
import pyarrow.fs as pa_fs

from vidgen_core.errors import VidgenError

__all__ = ["Lost", "Place", "Stored", "filesystem", "place_of"]

Result = TypeVar("Result")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+")
# What brings the client of a store: an extra of ours.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_CODE = re.compile(r"<Code>(\w+)</Code>")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_TRIES, _FIRST_WAIT_S = 4, 0.5
# Of deltalake's own client; together with its growing waits half a minute.
_DELTA_PATIENCE = {"max_retries": "8", "retry_timeout": "60s", "timeout": "60s"}
_NO_ANSWER = (
    "connection refused", "could not connect", "error sending request", "timed out", "connecttimeout",
    "connection reset", "connection was closed", "cannot connect", "dns error", "name or service not known",
    "server disconnected", "broken pipe", "temporary failure",
)  # fmt: skip
_NO_CREDENTIALS = ("unable to locate credentials", "nocredentials", "credentials provider", "credentialsnotloaded",
                   "partial credentials", "no providers in chain", "anonymous caller", "config profile",
                   "169.254.169.254", "no credentials found in chain")  # fmt: skip
_DENIED = ("accessdenied", "access denied", "forbidden", "invalidaccesskeyid", "signaturedoesnotmatch", "expiredtoken",
           "invalid_grant", "permission", "access key id you provided", "signature we calculated")  # fmt: skip
_NOT_THERE = ("nosuchbucket", "bucket does not exist", "no such bucket")


_GOES_ON = "The same command goes on from what was committed"
# What goes wrong with a place: what to say, the next move, and how it is told from the others.
_FAULTS: tuple[tuple[str, str, Callable[[Exception], bool]], ...] = (
    ("The store wants to know who you are, and there are no credentials",
     "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for an open bucket AWS_SKIP_SIGNATURE=true",
     lambda error: _says(error, _NO_CREDENTIALS)),
    ("The store does not let you", "Check your credentials and what they may do there",
     lambda error: isinstance(error, PermissionError) or _says(error, _DENIED)),
    ("There is no such bucket", "Check the address", lambda error: _says(error, _NOT_THERE)),
    ("There is nothing at this address", "Check it", lambda error: isinstance(error, FileNotFoundError)),
    ("The store does not answer", f"Check the network and AWS_ENDPOINT_URL. {_GOES_ON}",
     lambda error: isinstance(error, ConnectionError | TimeoutError) or _says(error, _NO_ANSWER)),
    ("Another run changed the same table at the same time", f"Let it end. {_GOES_ON}",
     lambda error: type(error).__name__ == "CommitFailedError"),
)  # fmt: skip


class Lost(Exception):  # noqa: N818 - it becomes a row of `rejects`, and is no error of the run
    """One object that cannot be had, while its place answers.

    Args:
        message: Why.
        attempts: How often it was tried.

    """

    def __init__(self, message: str, attempts: int) -> None:
        super().__init__(message, attempts)
        self.message, self.attempts = message, attempts


@dataclass(frozen=True)
class Stored:
    """An object as its place lists it.

    Attributes:
        path: Below the place, with slashes.
        size_bytes: Its size.
        stamp: What changes when it is written anew: its ETag, else its generation, else when it was written.

    """

    path: str
    size_bytes: int
    stamp: str


@dataclass(frozen=True)
class Place:
    """A folder of objects, such as s3://bucket/videos.

    Every method raises `VidgenError` when the place as a whole cannot be used.

    Attributes:
        uri: Its address, without a slash at its end.

    """

    uri: str

    def check(self) -> None:
        """Ask once whether it answers and has anything."""
        with self.errors():
            filesystem(self.scheme).info(self.root)

    def objects(self) -> list[Stored]:
        """Everything below it, by path; markers of folders are no objects."""
        found = self._patiently(lambda files: files.find(self.root, detail=True))
        if not found:
            self.check()
        below = len(self.root) + 1
        objects = [_stored(name[below:], facts) for name, facts in found.items() if len(name) > below]
        return sorted((one for one in objects if not one.path.endswith("/")), key=lambda one: one.path)

    def fetch(self, path: str, file: Path, stamp: str = "") -> None:
        """Bring an object into a file, which is there whole or not at all.

        Args:
            path: The object.
            file: Where it goes.
            stamp: Its stamp; another one, when it has arrived, is a loss.

        Raises:
            Lost: There is no such object, it may not be read, or it breaks off again and again.

        """
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name[:200]}.{os.getpid()}.tmp")

        def bring(files: Any) -> None:
            files.get_file(self._at(path), str(fresh))
            if stamp and _stored(path, files.info(self._at(path))).stamp != stamp:
                raise Lost("It was written anew while it was read", 1)

        try:
            self._one(bring)
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)

    def put(self, file: Path, path: str) -> None:
        """Bring a file into the place; it is there whole or not at all."""
        self._patiently(lambda files: files.put_file(str(file), self._at(path)))

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        """An object as a stream that seeks, of which only what is read is brought."""
        with self.errors(), filesystem(self.scheme).open(self._at(path), "rb") as stream:
            yield stream

    def size_bytes(self, path: str) -> int | None:
        """The size of an object; None when there is none."""
        found = self._found(lambda files: files.info(self._at(path)))
        return None if found is None else int(found["size"])

    def names(self, folder: str = "", *, folders: bool = False) -> list[str]:
        """Names of the objects in one of its folders, or of the folders in it; none where there is no such folder."""
        found = self._found(lambda files: files.ls(self._at(folder), detail=True)) or []
        kind = "directory" if folders else "file"
        return sorted(Path(one["name"]).name for one in found if one["type"] == kind)

    def delete(self, path: str) -> None:
        """Remove an object, in a bucket with versions all of its versions too."""
        at = self._at(path)

        def remove(files: Any) -> None:
            if _EXTRAS.get(self.scheme) == "s3":
                bucket, _, key = at.partition("/")
                listed = files.call_s3("list_object_versions", Bucket=bucket, Prefix=key)
                for one in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
                    if one["Key"] == key:
                        files.call_s3("delete_object", Bucket=bucket, Key=key, VersionId=one["VersionId"])
            if files.exists(at):
                files.rm_file(at)

        self._patiently(remove)

    def arrow(self) -> tuple[pa_fs.FileSystem, str]:
        """The place to Arrow: a file system and the path in it."""
        return pa_fs.PyFileSystem(pa_fs.FSSpecHandler(filesystem(self.scheme))), self.root

    def delta_options(self) -> dict[str, str]:
        """What deltalake is told; a commit is a put that fails when somebody else has made the same version."""
        options = dict(_DELTA_PATIENCE)
        if _EXTRAS.get(self.scheme) == "s3":
            options["conditional_put"] = "etag"
            if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:"):
                options["aws_allow_http"] = "true"
            if not _is_open():
                # With an endpoint of its own it would look at keys in the environment only, and not at profiles.
                options["aws_force_credential_load"] = "true"
        return options

    @property
    def scheme(self) -> str:
        """The kind of store."""
        return self.uri.partition(":")[0].lower()

    @property
    def root(self) -> str:
        """Its path as the store's client has it."""
        return str(filesystem(self.scheme)._strip_protocol(self.uri))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What goes wrong with the place becomes a sentence."""
        try:
            yield
        except (VidgenError, Lost):
            raise
        except Exception as error:
            told = _told(error, self.uri)
            if told is None:
                raise
            raise told from error

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _one(self, act: Callable[[Any], Result]) -> Result:
        """Do something with one object: what fails while the place answers is the object's loss."""
        try:
            return _again(act, self.scheme, (FileNotFoundError, PermissionError, Lost))
        except (Lost, VidgenError):
            raise
        except Exception as error:
            if not _of_a_store(error):
                raise
            self.check()
            tries = 1 if isinstance(error, FileNotFoundError | PermissionError) else _TRIES
            raise Lost(_words(error), tries) from error

    def _patiently(self, act: Callable[[Any], Result]) -> Result:
        """Do something with the place, several times if need be."""
        with self.errors():
            return _again(act, self.scheme, (FileNotFoundError, PermissionError))
        raise AssertionError

    def _found(self, act: Callable[[Any], Result]) -> Result | None:
        """The same; None when there is no such object, while there is the bucket."""
        with self.errors():
            try:
                return _again(act, self.scheme, (FileNotFoundError, PermissionError))
            except FileNotFoundError as error:
                if _says(error, _NOT_THERE):
                    raise
        return None


def place_of(where: Path | str) -> Path | Place:
    """A folder of this machine, or a place elsewhere.

    Raises:
        VidgenError: There is no such kind of place, its client is not installed, or the address has a password in it.

    """
    found = _SCHEME.match(str(where))
    if found is None:
        return Path(where)
    scheme = found[1].lower()
    if scheme == "file":
        return Path(unquote(urlsplit(str(where)).path))
    uri = f"{scheme}://{str(where)[found.end() :].rstrip('/')}"
    if "@" in uri.split("/")[2]:
        raise VidgenError(
            "An address does not carry who you are",
            allowed=f"{scheme}://BUCKET/FOLDER",
            move="Put the credentials into the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...) and leave them out",
        )
    if not uri.partition("://")[2]:
        raise VidgenError("The address names no bucket", got=str(where), allowed=f"{scheme}://BUCKET/FOLDER")
    filesystem(scheme)
    return Place(uri)


@lru_cache
def filesystem(scheme: str) -> Any:
    """The client of a kind of store, one a process.

    Raises:
        VidgenError: There is no such kind, or its client is not installed.

    """
    try:
        made = fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        known = "a folder, file://, s3://, gs://, or another that fsspec knows"
        raise VidgenError("There is no such kind of place", got=f"{scheme}://", allowed=known) from error
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        move = f"pip install 'vidgen[{extra}]'" if extra else _words(error)
        raise VidgenError(f"Reading {scheme}:// needs a package that is not installed", move=move) from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if _EXTRAS.get(scheme) == "s3":
        # Patience is ours: botocore's own tries would multiply with them.
        tries = {} if "AWS_MAX_ATTEMPTS" in os.environ else {"retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 60, **tries}
        options["anon"] = _is_open()
    client = made(**options)
    if _EXTRAS.get(scheme) == "s3":
        client.retries = 2
    return client


def _is_open() -> bool:
    """Whether nobody has to say who they are; the variable is deltalake's."""
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")


def _again(act: Callable[[Any], Result], scheme: str, final: Sequence[type[Exception]]) -> Result:
    """Try several times, waiting longer each time; what will not change by waiting is raised at once."""
    for tried in range(1, _TRIES + 1):
        try:
            return act(filesystem(scheme))
        except Exception as error:
            if tried == _TRIES or isinstance(error, tuple(final)) or not _of_a_store(error) or _needs_us(error):
                raise
            time.sleep(_FIRST_WAIT_S * 2 ** (tried - 1) * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
    raise AssertionError


def _of_a_store(error: Exception) -> bool:
    """Whether a store's client, or the way to it, raised this; our own mistakes are not to be hidden."""
    own = type(error).__module__.split(".")[0]
    if own in ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "asyncio", "fsspec", "deltalake", "_internal"):
        return True
    # Of the operating system those have a number that stores give too, apart from those about our own disk.
    return isinstance(error, OSError) and not (error.filename is not None or error.errno in (28, 122))


def _needs_us(error: Exception) -> bool:
    return _says(error, _NO_CREDENTIALS)


def _says(error: Exception, signs: Sequence[str]) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in signs)


def _told(error: Exception, uri: str) -> VidgenError | None:
    """A sentence for what went wrong with a place; None for what is no fault of its."""
    if not _of_a_store(error):
        return None
    for what, move, is_it in _FAULTS:
        if is_it(error):
            return VidgenError(what, got=uri, move=move)
    return VidgenError(f"The store answered: {_words(error)}", got=uri, move=_GOES_ON)


def _words(error: Exception) -> str:
    """What an error says, in a line; where a store gave a code, that."""
    text = _COLORS.sub("", str(error))
    if code := _CODE.search(text):
        return code[1]
    return " ".join(text.split())[:300] or type(error).__name__


def _stored(path: str, facts: dict[str, Any]) -> Stored:
    written = facts.get("LastModified") or facts.get("updated") or facts.get("mtime") or facts.get("created")
    stamp = facts.get("ETag") or facts.get("etag") or facts.get("generation") or written
    return Stored(path, int(facts["size"] or 0), str(stamp).strip('"'))
