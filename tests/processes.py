"""Which processes work on what, as this machine tells it."""

from pathlib import Path


def named(*words: str) -> list[int]:
    """Processes whose commands have all the words."""
    return [pid for pid in _all() if all(word.encode() in _read(pid, "cmdline") for word in words)]


def launchers(home: object) -> list[int]:
    """Processes of flow runs that have started a stage of this home: the parents of their guards."""
    guards = named("guard.py", "flows.stage", str(home))
    return sorted({_parent(pid) for pid in guards} - {0})


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
