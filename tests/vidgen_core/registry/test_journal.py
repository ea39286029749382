"""Laws of the journal: it alone says who is champion, one of two at once wins, and a kill leaves no third state."""

import multiprocessing
import signal

import pytest

from tests.vidgen_core.registry.small import promote_and_die, promote_at, promoted
from vidgen_core.errors import VidgenError
from vidgen_core.registry.journal import Entry, State, append, read, replay, settle
from vidgen_core.registry.models import register, version_of
from vidgen_core.registry.promotion import block, rollback
from vidgen_core.registry.tracking import client

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["mlflow", "mlflow.store.model_registry.sqlalchemy_store", "tests.vidgen_core.registry.small"]
)


def entry(number, action, to, seen=None):
    return Entry(number=number, action=action, to=to, seen=seen, who="t", time=0.0, reasons=("why",))


def registered(registry, name, count, folder=None):
    folder = folder or registry.folder / "nothing"
    folder.mkdir(exist_ok=True)
    return [register(registry.run, name, folder, model=f"{name}-{number}", tags={}) for number in range(count)]


def consistent(store, name):
    """Those who count make a chain, the aliases are what they say, and every champion was seen by the next one."""
    state, entries = settle(store, name), read(store, name)
    champion = None
    for one in entries:
        if one.number in state.counted and one.action == "promote":
            assert one.seen == champion
            champion = one.to
    aliases = {alias: int(number) for alias, number in store.get_registered_model(name).aliases.items()}
    assert aliases == state.aliases
    return state


def test_of_two_entries_that_saw_the_same_champion_the_first_counts():
    entries = [entry(1, "promote", 1), entry(2, "promote", 3, seen=1), entry(3, "promote", 2, seen=1)]
    assert replay(entries) == State(champions=(1, 3), counted=(1, 2))
    assert replay(entries[::-1]) == replay(entries)


def test_a_rollback_leads_past_what_is_blocked_and_a_promotion_back_again():
    entries = [entry(1, "promote", 1), entry(2, "promote", 2, 1), entry(3, "promote", 3, 2), entry(4, "block", 2)]
    assert replay(entries).previous == 1
    back = replay([*entries, entry(5, "rollback", 1, 3)])
    assert (back.champion, back.previous) == (1, None)
    assert replay([*entries, entry(5, "rollback", 1, 3), entry(6, "promote", 3, 1)]).champions == (1, 3)
    assert replay([*entries, entry(5, "rollback", 2, 3)]).champion == 3
    assert replay([*entries, entry(5, "block", 3)]).aliases == {"previous": 1}


def test_a_stale_alias_is_set_right_by_the_next_command(registry):
    store = client(registry.uri)
    registered(registry, "stale", 2)
    append(store, "stale", entry(0, "promote", 1))
    append(store, "stale", entry(0, "promote", 2, seen=1))
    store.set_registered_model_alias("stale", "champion", "1")
    assert version_of(registry.uri, "stale@champion").version == 2
    consistent(store, "stale")


def test_rollback_blocking_and_their_refusals(registry):
    store, versions = client(registry.uri), registered(registry, "back", 3)
    for version in versions:
        assert promoted(registry.uri, version).promoted
    assert rollback(registry.uri, "back", who="t") == (3, 2)
    assert consistent(store, "back").aliases == {"champion": 2, "previous": 1}
    assert block(registry.uri, versions[:2], "it saw a.mp4", who="t") == versions[:2]
    assert block(registry.uri, versions[:2], "it saw a.mp4", who="t") == []
    assert consistent(store, "back").aliases == {}
    assert version_of(registry.uri, "back@champion").blocked == "it saw a.mp4"
    with pytest.raises(VidgenError, match="no previous champion to go back to"):
        rollback(registry.uri, "back", who="t")
    assert "blocked: it saw a.mp4" in promoted(registry.uri, versions[1]).reasons[0]
    assert promoted(registry.uri, versions[2], 9.0).promoted
    assert [one.action for one in read(store, "back")][-3:] == ["block", "refuse", "promote"]


# Before the entry, right after it, and between two aliases are the ones that matter most.
@pytest.mark.parametrize("at", [pytest.param(at, marks=[] if at in (3, 4, 5) else pytest.mark.slow) for at in range(8)])
def test_a_promotion_killed_at_any_point_leaves_the_old_or_the_new_state(registry, at):
    name, store = f"killed{at}", client(registry.uri)
    one, two = registered(registry, name, 2)
    promoted(registry.uri, one)
    child = PROCESSES.Process(target=promote_and_die, args=(registry.uri, two.model_dump_json(), at))
    child.start()
    child.join(60)
    # Evidence, its tag, the journal, its entry, champion, previous: after these there is nothing left to be killed at.
    assert child.exitcode == (-signal.SIGKILL if at < 6 else 0)
    written = len(read(store, name)) == 2
    assert written == (at > 3)
    assert version_of(registry.uri, f"{name}@champion").version == (2 if written else 1)
    consistent(store, name)
    assert promoted(registry.uri, two).promoted
    assert consistent(store, name).champions == (1, 2)


def test_promotions_at_once_leave_one_winner_and_all_of_them_in_the_journal(registry):
    store, versions, gate = client(registry.uri), registered(registry, "raced", 2), PROCESSES.Event()
    children = [
        PROCESSES.Process(
            target=promote_at, args=(registry.uri, version.model_dump_json(), gate, f"p{version.version}")
        )
        for version in versions
    ]
    for child in children:
        child.start()
    gate.set()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    state = consistent(store, "raced")
    # Each was as good as the others, so the gate let each pass, one after the other.
    assert sorted(state.champions) == [1, 2]
    assert state.champion == state.champions[-1]
    assert {one.who for one in read(store, "raced") if one.number in state.counted} == {"p1", "p2"}
