"""`GET /metrics`: what Prometheus scrapes. Gauges are counted in the database, counters come from the heartbeats.

A counter must never fall while its labels stay. The number of documents with a status does fall, with every retry and
when old jobs are deleted; what a supervisor has ended since its start does not. So counters have the label
`supervisor`, and `sum by (status) (rate(jobs_total[5m]))` is right whoever comes and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from supervisor.client.documents import is_alive
from supervisor.core.job import ENDED
from supervisor.core.pieces import part, parts
from supervisor.web.asking import Here, in_time

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Document = Mapping[str, Any]


class Snapshot(Collector):
    """The figures of one scrape."""

    def __init__(self, activity: Document, supervisors: Iterable[Document]) -> None:
        self._activity = activity
        self._supervisors = [each for each in supervisors if is_alive(each)]

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its samples."""
        now = self._activity
        yield GaugeMetricFamily("jobs_active", "Jobs that are processing.", now["active_jobs"])
        yield GaugeMetricFamily("jobs_pending", "Jobs that are pending, due or not.", now["pending_jobs"])
        oldest_s = now["oldest_pending_s"] or 0.0
        yield GaugeMetricFamily("jobs_oldest_pending_seconds", "How long the first due job has been due.", oldest_s)
        yield GaugeMetricFamily("supervisors", "Supervisors heard of lately.", len(self._supervisors))
        yield self._slots()
        yield self._ended()
        yield self._durations()

    def _slots(self) -> Metric:
        slots = GaugeMetricFamily("supervisor_slots", "Slots by state.", labels=["supervisor", "state"])
        for supervisor in self._supervisors:
            states = [str(slot.get("state")) for slot in parts(supervisor, "slots")]
            for state in sorted(set(states)):
                slots.add_metric([str(supervisor["_id"]), state], states.count(state))
        return slots

    def _ended(self) -> Metric:
        jobs = CounterMetricFamily(
            "jobs", "Jobs that a supervisor has brought to an end since its start.", labels=["status", "supervisor"]
        )
        for supervisor in self._supervisors:
            ended = [part(total, "jobs") for total in parts(supervisor, "totals")]
            for status in ENDED:
                jobs.add_metric([status.value, str(supervisor["_id"])], sum(each.get(status, 0) for each in ended))
        return jobs

    def _durations(self) -> Metric:
        durations = HistogramMetricFamily(
            "job_duration_seconds", "Run time of attempts since a supervisor's start.", labels=["handler", "supervisor"]
        )
        for supervisor in self._supervisors:
            for total in parts(supervisor, "totals"):
                buckets = [(str(float(each["s"])), each["attempts"]) for each in parts(total, "within")]
                labels = [str(total["handler"]), str(supervisor["_id"])]
                durations.add_metric(labels, [*buckets, ("+Inf", total["attempts"])], total["run_s"])
        return durations


async def metrics(here: Here) -> Response:
    """Return the metrics of the whole fleet, for Prometheus. Scrape one address: all tell the same."""
    activity = await in_time(here.queue.activity())
    registry = CollectorRegistry()
    registry.register(Snapshot(activity, await in_time(here.queue.supervisors())))
    return Response(generate_latest(registry), media_type=MEDIA_TYPE)


def add_to(api: APIRouter) -> None:
    """Add this route."""
    told = {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    api.get(
        "/metrics", response_class=Response, responses={200: told}, tags=["health"], summary="Metrics for Prometheus"
    )(metrics)
