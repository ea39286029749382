"""Ports of this machine that servers of ours listen on, at 127.0.0.1 alone."""

import os
import socket

from vidgen_core.errors import VidgenError

__all__ = ["check_port", "free_port"]


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(port: int, option: str) -> None:
    """See that we can listen there: else we would talk to whoever does.

    Args:
        port: The port.
        option: The option that names it, as "--port".

    Raises:
        VidgenError: Another program listens there, or we may not.

    """
    with socket.socket() as probe:
        # As servers do, so that one that has just ended is not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise VidgenError(
                f"The port cannot be listened on: {why}", got=port, move=f"Choose another {option}"
            ) from error
