"""What the command line does when it is told to stop."""

import os
import signal
import threading

__all__ = ["Stop", "stop"]

_LEAVE_AFTER_S = 5.0


class Stop:
    """Stop the stage at once, and ourselves soon: a client of Prefect may wait for its server without an end.

    Leaving is safe at any time, because the guards end all that we started when we are gone.
    """

    code = 128 + signal.SIGINT

    def __call__(self, number: int, _frame: object) -> None:
        """Hear a signal."""
        self.code = 128 + number
        timer = threading.Timer(_LEAVE_AFTER_S, os._exit, (self.code,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt


stop = Stop()
