"""Prometheus metrics of a home: read from its files when they are asked for, so that no run knows of them."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.commands.status import StageStatus, statuses
from flows.home import Home
from flows.ports import check_port

__all__ = ["HomeCollector", "export"]

_STATES = ("running", "done", "failed", "stopped")


class HomeCollector(Collector):
    """Everything that is known of the stages of a home, by the names of the units that Prometheus advises.

    `vidgen_stages{stage,state}` counts. Of the stage that works: `vidgen_stage_done`, `_backlog`, `_rate`, and
    `vidgen_training_figure{figure}` (samples and tokens a second, share of waiting, MFU, losses). Of the latest run
    that ended: `vidgen_rows{stage,name}`, `vidgen_stage_seconds`, `vidgen_stage_timestamp_seconds`.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """One look."""
        told = statuses(self._home)
        yield _counts(told)
        if told and told[0].state == "running":
            yield from _working(told[0])
        yield from _ended(told)

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not look."""
        return []


def _counts(told: list[StageStatus]) -> Metric:
    counted = Counter((one.stage, one.state) for one in told)
    gauge = GaugeMetricFamily("vidgen_stages", "Stages of all runs of the home by state", labels=["stage", "state"])
    for stage in sorted({one.stage for one in told}):
        for state in _STATES:
            gauge.add_metric([stage, state], counted[stage, state])
    return gauge


def _working(one: StageStatus) -> Iterator[Metric]:
    yield _gauge("vidgen_stage_running_seconds", "How long the stage works", one.stage, one.seconds or 0.0)
    at = one.progress
    if at is None:
        return
    yield _gauge("vidgen_stage_done", "Units of the stage that are done", one.stage, at.done)
    if at.total is not None:
        yield _gauge("vidgen_stage_backlog", "Units of the stage that are left", one.stage, at.total - at.done)
    if at.rate is not None:
        yield _gauge("vidgen_stage_rate", "Units a second", one.stage, at.rate)
    figures = GaugeMetricFamily("vidgen_training_figure", "Figures of a training, by name", labels=["stage", "figure"])
    for name, value in at.figures.items():
        figures.add_metric([one.stage, name], value)
    yield figures


def _ended(told: list[StageStatus]) -> Iterator[Metric]:
    rows = GaugeMetricFamily("vidgen_rows", "Rows that the latest run of a stage told", labels=["stage", "name"])
    seconds = GaugeMetricFamily("vidgen_stage_seconds", "What the latest run of a stage took", labels=["stage"])
    when = GaugeMetricFamily("vidgen_stage_timestamp_seconds", "When it was asked", labels=["stage"])
    seen = set()
    for one in told:
        if one.state != "done" or one.stage in seen:
            continue
        seen.add(one.stage)
        seconds.add_metric([one.stage], one.seconds or 0.0)
        when.add_metric([one.stage], one.began)
        for name, count in one.counts.items():
            rows.add_metric([one.stage, name], count)
    yield from (rows, seconds, when)


def _gauge(name: str, about: str, stage: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=["stage"])
    gauge.add_metric([stage], value)
    return gauge


def export(home: Home, port: int) -> None:
    """Answer at http://127.0.0.1:PORT/metrics from a thread, for as long as the process lives.

    Raises:
        VidgenError: Another program listens there.

    """
    check_port(port, "--metrics")
    registry = CollectorRegistry()
    registry.register(HomeCollector(home))
    start_http_server(port, addr="127.0.0.1", registry=registry)
