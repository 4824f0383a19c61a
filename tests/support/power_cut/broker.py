"""A Kafka broker on a disk of its own, whose power can be cut."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postjournal.adapters.kafka.admin import KafkaProbe
from postjournal.cli.local.kafka import (
    ENVIRONMENT,
    broker_command,
    broker_properties,
    format_storage,
)
from postjournal.cli.local.kafka_jars import ensure_jars
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.ports import HOST, choose_ports
from postjournal.config.settings import KafkaAccess
from postjournal.config.variables import process_environment
from tests.support.power_cut.disk import Disk, Undone

SOURCE = Path(__file__).with_name("recorder.c")
START_S = 90.0


def compiled_recorder(folder: Path) -> Path:
    """The library of recorder.c; skips the test where it cannot be built."""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD and the kernel calls of recorder.c exist on Linux only")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build recorder.c")
    library = folder / "recorder.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *options, "-o", library, SOURCE, "-ldl"], check=True)
    return library


def recording(library: Path, folder: Path, record: Path) -> dict[str, str]:
    """The environment of a process whose changes below `folder` are recorded."""
    return {
        "LD_PRELOAD": str(library),
        "POWER_CUT_FOLDER": str(folder),
        "POWER_CUT_RECORD": str(record),
    }


class FragileBroker:
    """The broker that `up` starts, with the same settings, on a disk of which power cuts take what
    it has not synced.
    """

    def __init__(self, folder: Path) -> None:
        """Formats the storage, which counts as durable."""
        self._layout = Layout(folder)
        self._layout.create()
        self._library = compiled_recorder(folder)
        self._record = folder / "record"
        self._jars = ensure_jars(lambda _: None)
        ports = choose_ports({"kafka": 9092, "controller": 9093}, prefer_wanted=False)
        self.address = f"{HOST}:{ports['kafka']}"
        properties = broker_properties(self._layout.kafka_data, ports["kafka"], ports["controller"])
        self._layout.kafka_configuration.write_text(properties)
        format_storage(self._layout, self._jars)
        self._disk = Disk(self._layout.kafka_data)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._layout.log("kafka")

    def start(self) -> None:
        """Returns when the broker answers."""
        self._record.unlink(missing_ok=True)
        environment = recording(self._library, self._layout.kafka_data, self._record)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                broker_command(self._jars, self._layout.kafka_configuration),
                env=process_environment(ENVIRONMENT | environment),
                stdout=output,
                stderr=output,
            )
        probe, deadline = KafkaProbe(KafkaAccess(self.address)), time.monotonic() + START_S
        while not probe.answers():
            assert self._process.poll() is None, f"Kafka has exited: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"Kafka does not answer after {START_S:.0f} s"
            time.sleep(0.05)

    def cut_power(self) -> Undone:
        """Kill the broker and undo what it had not synced."""
        with self._record.open("rb") as record:
            # Between an operation and its entry in the record the broker holds this lock.
            fcntl.flock(record, fcntl.LOCK_EX)
            self.kill()
        return self._disk.cut_power(self._record)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None
