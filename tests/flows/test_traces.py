"""Spans of stages: with the ids of the run, to whom the environment names, and to nobody otherwise."""

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flows import traces
from flows.recipes.recipe import load
from flows.spec import Row, Spec, StageResult
from vidgen_core.errors import VidgenError

ROOT = Path(__file__).parents[2]
STAGE = """
import sys
from pathlib import Path
from flows import traces
from flows.recipes.recipe import load
from flows.spec import Spec
with traces.of_stage(Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=Path(sys.argv[1]))):
    pass
"""


@pytest.fixture
def spec(tmp_path):
    return Spec(stage="prepare", recipe=load("shapes.tiny"), videos="v", home_dir=tmp_path)


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch):
    for name in (traces.CHOICE, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    traces._provide.cache_clear()
    yield
    traces._provide.cache_clear()


def test_a_stage_is_a_span_with_the_ids_of_its_run_and_what_it_counted(spec, monkeypatch):
    held, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(held))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with traces.of_run(spec), traces.of_stage(spec) as span:
        traces.tell(span, StageResult(stage="prepare", rows=(Row(name="clips", count=3), Row(name="page", note="x"))))
    with pytest.raises(VidgenError), traces.of_stage(spec):
        raise VidgenError("a mistake")
    good, run, bad = held.get_finished_spans()
    assert (run.name, good.parent.span_id) == ("run", run.context.span_id)
    assert good.name == bad.name == "stage prepare"
    assert dict(good.attributes) == {
        "vidgen.run": spec.run_key, "vidgen.stage": "prepare", "vidgen.recipe": "shapes.tiny",
        "vidgen.model": spec.recipe.model, "vidgen.rows.clips": 3,
    }  # fmt: skip
    assert (good.status.is_ok, bad.status.is_ok) == (True, False)


def test_nothing_is_sent_unless_it_is_asked_for(spec):
    with traces.of_stage(spec) as span:
        assert not span.is_recording()


def test_who_is_to_get_spans_is_checked(spec, monkeypatch):
    monkeypatch.setenv(traces.CHOICE, "zipkin")
    with pytest.raises(VidgenError, match="otlp, console, none"), traces.of_stage(spec):
        pass
    monkeypatch.setenv(traces.CHOICE, "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(VidgenError, match=r"vidgen\[traces\]"), traces.of_stage(spec):
        pass


def test_a_collector_gets_them_by_the_standard_variables(tmp_path):
    told = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {
            "PYTHONPATH": str(ROOT), traces.CHOICE: "otlp", "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        }  # fmt: skip
        subprocess.run([sys.executable, "-c", STAGE, str(tmp_path)], env=environment, check=True, timeout=300)
        collector.shutdown()
    ((path, body),) = told
    (of_service,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert path == "/v1/traces"
    assert "vidgen" in [
        each.value.string_value for each in of_service.resource.attributes if each.key == "service.name"
    ]
    assert [span.name for span in of_service.scope_spans[0].spans] == ["stage prepare"]
