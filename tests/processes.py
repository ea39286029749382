"""Which processes work on what, as this machine tells it."""

import contextlib
from pathlib import Path


def named(*words: str) -> list[int]:
    """Processes whose commands have all the words."""
    return [pid for pid in _all() if all(word.encode() in _read(pid, "cmdline") for word in words)]


def launchers(home: object) -> list[int]:
    """Processes of flow runs that have started a stage of this home: the parents of their guards."""
    guards = named("guard.py", "flows.stage", str(home))
    return sorted({_parent(pid) for pid in guards} - {0})


def below(pid: int) -> set[int]:
    """A process and all that it has started, and they."""
    parents = {child: _parent(child) for child in _all()}
    found, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def listening(pid: int) -> set[tuple[str, int]]:
    """Hosts and TCP ports at which a process waits for others; 127.0.0.1 where it is all of them."""
    sockets = set()
    for place in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            sockets.add(place.readlink().name)
    found = set()
    for line in (_read(pid, "net/tcp") + _read(pid, "net/tcp6")).decode().splitlines():
        parts = line.split()
        if parts[3] == "0A" and f"socket:[{parts[9]}]" in sockets:
            host, _, port = parts[1].rpartition(":")
            # IPv4 addresses stand there with their last byte first.
            spelled = ".".join(str(byte) for byte in reversed(bytes.fromhex(host[-8:])))
            found.add(("127.0.0.1" if spelled == "0.0.0.0" else spelled, int(port, 16)))
    return found


def _all() -> list[int]:
    return [int(place.name) for place in Path("/proc").glob("[0-9]*")]


def _parent(pid: int) -> int:
    status = _read(pid, "status").decode()
    return int(status.split("PPid:")[1].split()[0]) if status else 0


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:  # It has ended.
        return b""
