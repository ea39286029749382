"""OpenTelemetry: a span for every run of the line, with one for each of its stages in it; off unless asked for.

OTEL_TRACES_EXPORTER says who gets them; OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and
the others mean what the OpenTelemetry specification says.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

from flows.spec import Spec, StageResult
from vidgen_core.errors import VidgenError

__all__ = ["of_run", "of_stage", "tell"]

CHOICE = "OTEL_TRACES_EXPORTER"


def of_run(spec: Spec) -> AbstractContextManager[Any]:
    """A span of the whole line; see `of_stage`."""
    return _span("run", {}, spec)


def of_stage(spec: Spec) -> AbstractContextManager[Any]:
    """A span of the stage that is launched in the block, with the ids of its run; an error ends it as failed.

    Raises:
        VidgenError: No such exporter is known or installed.

    """
    return _span(f"stage {spec.stage}", {"vidgen.stage": spec.stage}, spec)


def tell(span: Any, result: StageResult) -> None:
    """Put what a stage counted beside its ids."""
    counts = {f"vidgen.rows.{row.name}": row.count for row in result.rows if row.count is not None}
    span.set_attributes(counts)


@contextmanager
def _span(name: str, ids: dict[str, str], spec: Spec) -> Iterator[Any]:
    _provide()
    from opentelemetry import trace

    ids |= {"vidgen.run": spec.run_key, "vidgen.recipe": spec.recipe.name, "vidgen.model": spec.recipe.model}
    with trace.get_tracer("vidgen").start_as_current_span(name, attributes=ids) as span:
        yield span


@cache
def _provide() -> None:
    """Send spans where the environment says; once a process."""
    name = os.environ.get(CHOICE, "none")
    if name == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    service = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "vidgen"}
    provider = TracerProvider(resource=Resource.create(service))
    # Spans are few, and commands leave without waiting for a batch.
    provider.add_span_processor(SimpleSpanProcessor(_exporter(name)))
    trace.set_tracer_provider(provider)


def _exporter(name: str) -> Any:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise VidgenError("Spans have no such exporter", got=f"{CHOICE}={name}", allowed="otlp, console, none")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise VidgenError(
            "The exporter of spans is not installed", got=f"{CHOICE}={name}", move="pip install 'vidgen[traces]'"
        ) from None
    return OTLPSpanExporter()
