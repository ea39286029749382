"""The machine: cores, memory, shared memory, open files, ports, the clock."""

import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from flows.checks._finding import Finding, State, Subject
from flows.cluster import OBJECT_STORE_BYTES, cores_here

__all__ = ["check", "clock", "memory_bytes"]

# The demo's largest processes together, measured; below it the kernel ends one of them.
_LEAST_MEMORY = 4 * 2**30
_LEAST_FILES = 1024
_GIB = 2**30


def check(_subject: Subject) -> Iterator[Finding]:
    """What every run needs of a machine."""
    yield _cores()
    yield _memory()
    yield _shared_memory()
    yield _files()
    yield _ports()
    yield clock(time.time())


def _cores() -> Finding:
    cores, load = cores_here(), os.getloadavg()[0]
    busy = load > 2 * cores
    move = "Wait for the others: a run on a busy machine takes several times as long" if busy else ""
    found = f"{cores} for us, load {load:.1f}"
    return Finding(what="cores", state=State.DOUBTFUL if busy else State.GOOD, found=found, move=move)


def memory_bytes() -> tuple[int, int]:
    """(all, available) memory, within the limit of our control group."""
    told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(told[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total, free = min(total, int(text)), min(free, int(text) - int(used.read_text()))
    return total, free


def _memory() -> Finding:
    total, free = memory_bytes()
    little = free < _LEAST_MEMORY
    move = f"Free some: a run needs about {_LEAST_MEMORY // _GIB} GiB, or lower the cores with --set cores=2"
    found = f"{free / _GIB:.1f} GiB of {total / _GIB:.1f} are free"
    return Finding(
        what="memory", state=State.DOUBTFUL if little else State.GOOD, found=found, move=move if little else ""
    )


def _shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else 0
    little = free < OBJECT_STORE_BYTES
    found = f"{free / _GIB:.2f} GiB are free in /dev/shm"
    move = "Give the container more: docker run --shm-size=1g; without it Ray's objects lie on the disk"
    return Finding(
        what="shared memory", state=State.DOUBTFUL if little else State.GOOD, found=found, move=move if little else ""
    )


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < _LEAST_FILES
    move = f"ulimit -n {min(65536, hard)}" if few else ""
    return Finding(what="open files", state=State.BAD if few else State.GOOD, found=f"up to {soft}", move=move)


def _ports() -> Finding:
    """Servers of ours take free ports of the loopback device, and one end talks to the other through it."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=2),
        ):
            return Finding(what="ports", state=State.GOOD, found="the loopback device connects")
    except OSError as error:
        move = "Bring the loopback device up (ip link set lo up), and let no firewall stand in it"
        return Finding(what="ports", state=State.BAD, found=f"127.0.0.1 does not connect: {error}", move=move)


def clock(now: float) -> Finding:
    """Whether the time can be true: leases, schedules and the journal go by it."""
    # No file of ours can be younger than now.
    youngest = max(file.stat().st_mtime for file in Path(__file__).parent.glob("*.py"))
    wrong = now < youngest
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    move = "Set the clock: it is earlier than our own files" if wrong else ""
    return Finding(what="clock", state=State.BAD if wrong else State.GOOD, found=found, move=move)
