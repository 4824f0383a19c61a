"""supervisord: starting it, and talking to it over its control socket."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from supervisor.xmlrpc import SupervisorTransport

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT, Layout
from postjournal.config.variables import process_environment


class Program(msgspec.Struct, frozen=True):
    """A program as supervisord sees it; `state` is its word: RUNNING, EXITED, STOPPED…"""

    name: str
    state: str
    pid: int | None
    exit_status: int

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.pid is not None


class Supervisor:
    """A client of the supervisord behind `socket`."""

    def __init__(self, socket: str) -> None:
        """`socket` is the path of the control socket."""
        self._socket = socket

    def answers(self) -> bool:
        """Whether a supervisord is there and up."""
        try:
            with self._remote() as remote:
                return bool(remote.getState()["statename"] == "RUNNING")
        except OperationFailed:
            return False

    def programs(self) -> dict[str, Program]:
        """Every program, by name."""
        with self._remote() as remote:
            found = remote.getAllProcessInfo()
        return {
            info["name"]: Program(
                info["name"], info["statename"], info["pid"] or None, info["exitstatus"]
            )
            for info in found
        }

    def start_group(self, group: str) -> None:
        """Start a group's programs; does not wait for them."""
        with self._remote() as remote:
            remote.startProcessGroup(group, False)

    def start(self, group: str, name: str) -> None:
        """Start one program."""
        with self._remote() as remote:
            remote.startProcess(f"{group}:{name}", False)

    def stop(self, group: str, name: str) -> None:
        """Stop one program with SIGTERM (SIGKILL when it takes too long); returns when it ended."""
        with self._remote() as remote:
            remote.stopProcess(f"{group}:{name}", True)

    def shutdown(self) -> None:
        """Stop all programs, services before storage, and then supervisord; does not wait."""
        with self._remote() as remote:
            remote.shutdown()

    @contextlib.contextmanager
    def _remote(self) -> Iterator[Any]:
        """A connection for one call: they are not safe for threads, and cost next to nothing."""
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        # The host is not used, but the client wants one.
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            yield proxy.supervisor
        except xmlrpc.client.Fault as fault:
            raise OperationFailed(f"the process manager refused: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise OperationFailed(
                "the process manager does not answer: run `./postjournal down`"
            ) from error
        finally:
            transport.close()


def launch(layout: Layout, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start supervisord in a session of its own, so that Ctrl-C in the terminal spares it."""
    command = [
        *(sys.executable, "-m", "supervisor.supervisord"),
        *("-c", str(layout.supervisor_configuration)),
    ]
    with _output(layout).open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env=process_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def launch_errors(layout: Layout) -> str:
    """What supervisord said outside its log; only when it could not start."""
    return _output(layout).read_text(errors="replace").strip()


def _output(layout: Layout) -> Path:
    return layout.log("supervisord-start")
