"""`vidgen serve`: one process that starts a recipe's run at its hours, and tells when something is wrong."""

import os
import signal
from contextlib import ExitStack
from typing import Any

from flows.home import Home
from flows.recipes.recipe import Schedule
from vidgen_core.errors import VidgenError
from vidgen_core.frozen import Frozen

__all__ = ["Served", "check_notify", "serve"]


class Served(Frozen):
    """What is served.

    Args:
        name: Of the deployment.
        parameters: Of the flow `nightly`.
        schedule: When it begins.
        notify: A web address that is told of failures, empty releases and refused promotions; with "" a server of
            our own tells nobody.
        port: Where Prefect's server listens, on this machine alone.
        metrics: Where Prometheus finds figures, on this machine alone; 0 is nowhere.

    """

    name: str
    parameters: dict[str, Any]
    schedule: Schedule
    notify: str = ""
    port: int
    metrics: int = 0


def serve(home: Home, served: Served) -> None:
    """Serve until a signal ends it; a run that is under way is stopped, and the next one goes on from there.

    One run at a time: what comes due while one works is cancelled, and its videos are those of the next. A server of
    our own is started unless PREFECT_API_URL names one.

    Raises:
        VidgenError: Another process serves this home, or another program listens at a port.

    """
    from flows.embedded import prefect_server

    # Who else uses a server that is not ours, and wants to be told, is not known here.
    ours = "PREFECT_API_URL" not in os.environ
    with ExitStack() as held:
        held.enter_context(home.lock("serve"))
        if served.metrics:
            from flows.exporter import export

            export(home, served.metrics)
        held.enter_context(prefect_server(home, port=served.port))
        from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
        from prefect.schedules import Cron

        from flows.automations import be_silent, notify
        from flows.nightly import nightly

        if served.notify:
            notify(served.notify)
        elif ours:
            be_silent()
        when = Cron(served.schedule.cron, timezone=served.schedule.timezone)
        # Prefect's runner takes SIGTERM itself, and ends its runs on it; Ctrl-C is to do the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nightly.serve(
            name=served.name,
            schedule=when,
            parameters=served.parameters,
            global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            # A stop must not leave the schedule paused in the database for the next start.
            pause_on_shutdown=False,
            print_starting_message=False,
        )


def check_notify(address: str) -> None:
    """See that it is a web address.

    Raises:
        VidgenError: It is none.

    """
    if address and not address.startswith(("http://", "https://")):
        raise VidgenError("Notes go to a web address", got=address, allowed="http://... or https://...")
