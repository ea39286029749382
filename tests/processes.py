"""Which processes work on what, as this machine tells it."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def named(*words: str) -> list[int]:
    """Processes whose commands have all the words."""
    return [pid for pid in _all() if all(word.encode() in _read(pid, "cmdline") for word in words)]


def marked(name: str, value: str) -> list[int]:
    """Processes that were started with this variable in their environment, as far as we may see that."""
    word = f"{name}={value}".encode()
    return [pid for pid in _all() if word in _read(pid, "environ").split(b"\0")]


def launchers(home: object) -> list[int]:
    """Processes of flow runs that have started a stage of this home: the parents of their guards."""
    guards = named("guard.py", "flows.stage", str(home))
    return sorted({_parent(pid) for pid in guards} - {0})


def below(*pids: int) -> set[int]:
    """Processes and all that they have started, and these."""
    parents = {child: _parent(child) for child in _all()}
    found, fresh = set(pids), set(pids)
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def since(pid: int) -> str:
    """When it was started, as its number may be another's later; "" if it has ended."""
    told = _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()
    return told[19] if told and told[0] != "Z" else ""


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


def run_watched(command: Sequence[str], env: Mapping[str, str], *, every_s: float = 0.2) -> tuple[str, int, int]:
    """Run a program: what it prints, the most KiB that it held at once, and the most that one of those below it did.

    As the kernel keeps VmHWM; `ru_maxrss` begins with the peak of who started a program, and lacks whom nobody awaited.
    """
    own = below_it = 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, env=env, stdout=told)
        while process.poll() is None:
            held = {pid: _peak_kib(pid) for pid in below(process.pid)}
            own = max(own, held.pop(process.pid, 0))
            below_it = max([below_it, *held.values()])
            time.sleep(every_s)
        told.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return told.read(), own, below_it


def _peak_kib(pid: int) -> int:
    _, there, rest = _read(pid, "status").decode().partition("VmHWM:")
    return int(rest.split()[0]) if there else 0


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
