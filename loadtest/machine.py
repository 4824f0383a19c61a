"""The machine that a run was measured on."""

from __future__ import annotations

import os
import platform
import time

import msgspec

from loadtest.kafka import client_versions
from postjournal.config.settings import FSYNC

CALIBRATION_ROUNDS = 2_000_000


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`load`: the 1-minute load average before the run.

    `python_step_ns`: CPU time of one round of an empty Python loop before the run, so that
    figures from different moments of a shared machine can be compared. `fsync`: whether the Kafka
    of a bench's own system writes to the disk before it acknowledges (POSTJOURNAL_FSYNC).
    """

    cpus: int
    load: float
    python_step_ns: float
    system: str
    python: str
    confluent_kafka: str
    librdkafka: str
    started: str
    fsync: bool = True


def this_machine() -> Machine:
    """Describe and calibrate this machine, which takes about 0.1 s of CPU time."""
    confluent_kafka, librdkafka = client_versions()
    return Machine(
        cpus=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 2),
        python_step_ns=_python_step_ns(),
        system=platform.platform(),
        python=platform.python_version(),
        confluent_kafka=confluent_kafka,
        librdkafka=librdkafka,
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        fsync=FSYNC.read() is not False,
    )


def _python_step_ns() -> float:
    started_ns = time.thread_time_ns()
    for _ in range(CALIBRATION_ROUNDS):
        pass
    return round((time.thread_time_ns() - started_ns) / CALIBRATION_ROUNDS, 2)
