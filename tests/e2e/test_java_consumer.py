"""A consumer in another language sees every result exactly once, through kills of the leader."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from loadtest.faults.injector import FaultInjector
from loadtest.faults.kinds import Fault
from loadtest.system import BenchSystem, leader_of, own_system, wait_until_settled
from loadtest.workload.load import Load, opened
from postjournal.cli.local.kafka_jars import LIBRARIES
from postjournal.cli.local.layout import PROJECT_ROOT

pytestmark = pytest.mark.kafka

PROGRAM = PROJECT_ROOT / "docs" / "consumers" / "ResultsConsumer.java"
KILLS, RATE = 10, 200


class JavaConsumer:
    """The program of the documents; killed and started again, it goes on."""

    def __init__(self, system: BenchSystem, file: Path) -> None:
        self.file = file
        self._command = ["java", "-cp", f"{LIBRARIES}/*", str(PROGRAM)]
        self._command += [system.kafka.bootstrap, system.results_topic, "0", str(file)]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stderr=self.file.with_suffix(".log").open("ab"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self.process = self._start()

    @property
    def lines(self) -> list[str]:
        text = self.file.read_text() if self.file.exists() else ""
        return text.splitlines()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 180
        while len(self.lines) < count:
            assert self.process.poll() is None, self.file.with_suffix(".log").read_text()
            assert time.monotonic() < deadline, f"{len(self.lines)} of {count}"
            time.sleep(0.1)


@contextmanager
def consuming(system: BenchSystem, file: Path) -> Iterator[JavaConsumer]:
    consumer = JavaConsumer(system, file)
    try:
        yield consumer
    finally:
        consumer.process.kill()
        consumer.process.wait(60)


def test_a_java_consumer_sees_every_result_exactly_once_through_kills(tmp_path: Path) -> None:
    with own_system(3) as system, consuming(system, tmp_path / "results") as consumer:
        injector = FaultInjector(system)
        wait_until_settled(system)
        with opened(Load(system, seed=7)) as load:
            load.start(RATE)
            for number in range(KILLS):
                injector.inject(Fault.KILL, leader_of(wait_until_settled(system)).name)
                if number % 4 == 3:
                    consumer.kill()
            load.stop()
            deadline = time.monotonic() + 180
            while load.outstanding or len(load.failovers) < KILLS:
                assert time.monotonic() < deadline, (load.outstanding, load.failovers)
                load.drain()
                time.sleep(0.1)
            findings = load.findings()
        assert findings.ok
        consumer.wait_for(findings.outcomes)
        lines = consumer.lines
    assert [int(line.split(" ", 1)[0]) for line in lines] == list(range(findings.outcomes))
    ids = [msgspec.json.decode(line.split(" ", 2)[2])["id"] for line in lines]
    assert len(set(ids)) == len(ids)
