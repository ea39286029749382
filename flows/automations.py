"""Prefect automations that tell a web address what went wrong."""

from datetime import timedelta

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook

from flows.nightly import EMPTY, REFUSED

__all__ = ["BLOCK", "be_silent", "notify"]

BLOCK = "vidgen-notify"
_FAILED = ("prefect.flow-run.Failed", "prefect.flow-run.Crashed")
_CAUSES = {
    "vidgen: a run failed": _FAILED,
    "vidgen: a release is empty": (EMPTY,),
    "vidgen: a promotion was refused": (REFUSED,),
}
_PAYLOAD = '{"what": "%s", "event": "{{ event.event }}", "resource": "{{ event.resource.id }}", "why": %s}'
# Templates are Jinja2's, and what a run says may contain anything.
_WHY = "{{ event.payload.why | default('') | tojson }}"


def notify(address: str) -> None:
    """Make the automations, or bring them to this address; doing so again changes nothing.

    Args:
        address: Gets a JSON object with `what`, `event`, `resource` and `why` by POST.

    """
    block_id = Webhook(url=address).save(BLOCK, overwrite=True)
    for name, events in _CAUSES.items():
        # Stages are flows of their own; their failure fails the run, which tells once.
        match = {"prefect.resource.id": "prefect.flow-run.*" if events == _FAILED else "vidgen.model.*"}
        related = [{"prefect.resource.role": "flow", "prefect.resource.name": "nightly"}] if events == _FAILED else []
        wanted = AutomationCore(
            name=name,
            trigger=EventTrigger(
                expect=set(events),
                match=match,
                match_related=related,
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[CallWebhook(block_document_id=block_id, payload=_PAYLOAD % (name, _WHY))],
        )
        with get_client(sync_client=True) as client:
            there = client.read_automations_by_name(name)
            if there:
                client.update_automation(there[0].id, wanted)
            else:
                client.create_automation(wanted)


def be_silent() -> None:
    """Remove the automations, which outlive the process that made them; without any, nothing changes."""
    with get_client(sync_client=True) as client:
        for name in _CAUSES:
            for one in client.read_automations_by_name(name):
                client.delete_automation(one.id)
