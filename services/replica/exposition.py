"""The replica's `/metrics`: those of all engines, of the processes, and of the HTTP process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from services.replica.engines import Engines
from services.replica.messages import Family

FRESH_S = 0.5
"""Scrapes that come sooner get the values of the previous one: they cost the engines nothing."""

USUAL_ENDS = ("SIGKILL", "SIGSEGV", "SIGABRT", "exit_1", "stuck")
"""Causes that are shown before the first one: Prometheus' `increase` does not see the first event
of a series that begins with it."""

LABELS = ("shard",)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """What a process uses. `cpu_s`: since its start."""

    cpu_s: float
    memory_bytes: int
    threads: int


def use_of(pid: int) -> Use | None:
    """Of a process of Linux; None when it has ended, and elsewhere."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # from the third on: see proc(5)
    return Use(
        (int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        int(fields[21]) * PAGE_BYTES,
        int(fields[17]),
    )


class ReplicaMetrics(Collector):
    """All metrics of one replica, each with the replica's name as a label.

    Prometheus adds only the address, which neither status records nor log lines have.
    """

    def __init__(self, replica: str, engines: Engines) -> None:
        """`replica`: the value of the label of the same name."""
        self._label, self._engines = {"replica": replica}, engines
        self._lock = threading.Lock()
        self._scraped_s = 0.0
        self._scraped: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        """One thread asks the engines, and the others use what it gets."""
        with self._lock:
            if time.monotonic() - self._scraped_s >= FRESH_S:
                families = [family for engine in self._engines.all for family in engine.scrape()]
                self._scraped = [*_merged(families), *self._of_processes(), *REGISTRY.collect()]
                self._label_all()
                self._scraped_s = time.monotonic()
            return self._scraped

    def _label_all(self) -> None:
        for metric in self._scraped:
            metric.samples = [
                sample._replace(labels=self._label | sample.labels) for sample in metric.samples
            ]

    def _of_processes(self) -> Iterable[Metric]:
        cpu = CounterMetricFamily(
            "postjournal_engine_cpu_seconds", "CPU time of the shard's engine", labels=LABELS
        )
        memory = GaugeMetricFamily(
            "postjournal_engine_resident_memory_bytes",
            "Resident memory of the shard's engine",
            labels=LABELS,
        )
        threads = GaugeMetricFamily(
            "postjournal_engine_threads", "Threads of the shard's engine", labels=LABELS
        )
        ends = CounterMetricFamily(
            "postjournal_engine_ends",
            "Engines that ended other than by a stop of the replica, by cause",
            labels=(*LABELS, "cause"),
        )
        for engine in self._engines.all:
            shard, state = (str(engine.shard),), engine.state
            use = None if state.pid is None else use_of(state.pid)
            if use is not None:
                cpu.add_metric(shard, use.cpu_s)
                memory.add_metric(shard, use.memory_bytes)
                threads.add_metric(shard, use.threads)
            for cause, count in (dict.fromkeys(USUAL_ENDS, 0) | state.ends).items():
                ends.add_metric((*shard, cause), count)
        return cpu, memory, threads, ends


def _merged(families: list[Family]) -> Iterable[Metric]:
    """One metric of each name, with the samples of all engines."""
    merged: dict[str, Metric] = {}
    for family in families:
        metric = merged.get(family.name)
        if metric is None:
            metric = Metric(family.name, family.documentation, family.type)
            merged[family.name] = metric
        metric.samples += [Sample(one.name, one.labels, one.value) for one in family.samples]
    return merged.values()


def registry_of(replica: str, engines: Engines) -> CollectorRegistry:
    """Return the registry that `/metrics` shows; `replica`: the replica's name."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReplicaMetrics(replica, engines))
    return registry
