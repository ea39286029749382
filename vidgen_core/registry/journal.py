"""Who was champion when, and why: a journal in the registry itself, of which aliases are only a copy.

MLflow sets an alias without asking what it was, so two promotions at once could both believe to have won. But it
numbers the versions of a registered model without gaps, in one transaction each, from whatever machine they come. So
the journal of the model NAME is the registered model NAME.journal, an entry a version: its number is its place. An
entry says which champion its writer saw. Replayed in order, it counts only if that is the champion by then; of two
promotions from one champion the second is void, and its writer asks the gate again. Once an entry is written the change
is made: whoever comes next sets the aliases to what the journal says. So a kill leaves the old state or the new one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["CHALLENGER", "CHAMPION", "Entry", "State", "append", "journal_of", "models_of", "read", "replay", "settle"]

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
BLOCKED_TAG = "vidgen.blocked"
_SUFFIX = ".journal"
_ENTRY_TAG = "vidgen.entry"
_MOST_TRIES = 20


class Entry(Frozen):
    """One line of the journal.

    Args:
        action: "promote" and "rollback" change the champion, "refuse" the challenger, "block" what may be champion.
        to: The version that it is about.
        seen: The champion that the writer saw; what changes the champion counts only if it is right.
        who: Whose account wrote it.
        time: Seconds since 1970, by the writer's clock; the order is that of the numbers.
        reasons: Why, in sentences.
        evidence: Digests and runs that it rests on.
        origin: The registry that it was copied from, for the record; then it changes nothing here.
        number: Its place; 0 before it is written.

    """

    action: Literal["promote", "refuse", "rollback", "block"]
    to: int
    seen: int | None
    who: str
    time: float
    reasons: tuple[str, ...]
    evidence: dict[str, str] = {}
    origin: str = ""
    number: int = 0


class State(Frozen):
    """What the journal says.

    Args:
        champions: Those who are or were champion, and were not rolled back, in order: the last one is.
        challenger: The latest version that the gate refused, unless it was promoted since.
        blocked: Version -> why it must not be used.
        counted: Numbers of the entries that counted.

    """

    champions: tuple[int, ...] = ()
    challenger: int | None = None
    blocked: dict[int, str] = {}
    counted: tuple[int, ...] = ()

    @property
    def champion(self) -> int | None:
        """The champion, blocked or not."""
        return self.champions[-1] if self.champions else None

    @property
    def rival(self) -> int | None:
        """Whom a candidate is compared with: the champion, or the one before where that is blocked."""
        return self.champion if self.champion not in self.blocked else self.previous

    @property
    def previous(self) -> int | None:
        """Where a rollback leads: the latest champion before this one that may be used."""
        return next((one for one in reversed(self.champions[:-1]) if one not in self.blocked), None)

    @property
    def aliases(self) -> dict[str, int]:
        """What the aliases have to be; a blocked champion has none, so that MLflow's server refuses it too."""
        told = {CHAMPION: self.champion, PREVIOUS: self.previous, CHALLENGER: self.challenger}
        return {name: one for name, one in told.items() if one is not None and one not in self.blocked}


def replay(entries: Sequence[Entry]) -> State:
    """The state after these entries, in the order of their numbers."""
    state = State()
    for entry in sorted(entries, key=lambda entry: entry.number):
        after = None if entry.origin else _after(state, entry)
        if after is not None:
            state = after.model_copy(update={"counted": (*state.counted, entry.number)})
    return state


def _after(state: State, entry: Entry) -> State | None:
    """The state with one more entry; None where the entry is void."""
    if entry.action == "block":
        return state.model_copy(update={"blocked": {**state.blocked, entry.to: " ".join(entry.reasons)}})
    if entry.action == "refuse":
        return state.model_copy(update={"challenger": entry.to})
    if entry.seen != state.champion or entry.to in state.blocked:
        return None
    if entry.action == "rollback":
        before = state.champions[:-1]
        if entry.to not in before:
            return None
        place = len(before) - before[::-1].index(entry.to)
        return state.model_copy(update={"champions": before[:place]})
    challenger = None if state.challenger == entry.to else state.challenger
    return state.model_copy(update={"champions": (*state.champions, entry.to), "challenger": challenger})


def journal_of(name: str) -> str:
    """The registered model that keeps a model's journal."""
    return f"{name}{_SUFFIX}"


def models_of(store: Any) -> list[str]:
    """Names of the registered models, without the journals."""
    names: list[str] = []
    page = store.search_registered_models()
    while True:
        names += [one.name for one in page if not one.name.endswith(_SUFFIX)]
        if not page.token:
            return names
        page = store.search_registered_models(page_token=page.token)


def append(store: Any, name: str, entry: Entry) -> int:
    """Write an entry; its number. From here on it is part of the journal, whatever happens to us.

    Raises:
        VidgenError: Too many others write at once.

    """
    from mlflow.exceptions import MlflowException

    ensure_model(store, journal_of(name))
    tags = {_ENTRY_TAG: entry.model_dump_json(exclude={"number"})}
    for _ in range(_MOST_TRIES):
        try:
            return int(store.create_model_version(journal_of(name), f"models:/{name}/{entry.to}", tags=tags).version)
        except MlflowException as error:
            # Others took the number: MLflow tries three times by itself.
            if "Giving up" not in str(error) and "locked" not in str(error):
                raise
    raise VidgenError(f"The journal of {name} is written by too many at once", move="Give the command again")


def read(store: Any, name: str) -> list[Entry]:
    """All entries in order."""
    found = store.search_model_versions(f"name = '{journal_of(name)}'")
    told = [(int(one.version), one.tags.get(_ENTRY_TAG)) for one in found]
    entries = [Entry.model_validate_json(text).model_copy(update={"number": number}) for number, text in told if text]
    return sorted(entries, key=lambda entry: entry.number)


def settle(store: Any, name: str) -> State:
    """Set aliases and tags to what the journal says, also where another process was killed before it could.

    Whoever is overtaken while it sets them does it again, so the last one to write has read the last entry.
    """
    entries = read(store, name)
    while True:
        state = replay(entries)
        if entries:
            _set(store, name, state)
        now = read(store, name)
        if len(now) == len(entries):
            return state
        entries = now


def _set(store: Any, name: str, state: State) -> None:
    there = {alias: int(version) for alias, version in store.get_registered_model(name).aliases.items()}
    for number, why in state.blocked.items():
        if store.get_model_version(name, str(number)).tags.get(BLOCKED_TAG) != why:
            store.set_model_version_tag(name, str(number), BLOCKED_TAG, why)
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        wanted = state.aliases.get(alias)
        # An alias that somebody set before there was a journal stays, unless its version must not be used.
        known = bool(state.champions) or there.get(alias) in state.blocked
        if wanted is None and alias in there and known:
            store.delete_registered_model_alias(name, alias)
        elif wanted is not None and there.get(alias) != wanted:
            store.set_registered_model_alias(name, alias, str(wanted))


def ensure_model(store: Any, name: str, tags: Mapping[str, str] = {}) -> None:
    """Make a registered model if it is not there."""
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(name, tags=dict(tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
