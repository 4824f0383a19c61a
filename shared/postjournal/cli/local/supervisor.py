"""supervisord: starting it, and the client of its control socket."""

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


class ProgramInfo(msgspec.Struct, frozen=True):
    """A program as supervisord reports it. `state`: RUNNING, EXITED, STOPPED and so on."""

    name: str
    state: str
    pid: int | None
    exit_status: int

    @property
    def running(self) -> bool:
        return self.pid is not None


class Supervisor:
    """A client of supervisord; `socket` is the path of its control socket.

    Methods raise `OperationFailed` when supervisord does not answer.
    """

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def is_up(self) -> bool:
        """Whether supervisord answers and is running."""
        try:
            with self._remote() as remote:
                return bool(remote.getState()["statename"] == "RUNNING")
        except OperationFailed:
            return False

    def programs(self) -> dict[str, ProgramInfo]:
        """Return all programs by name."""
        with self._remote() as remote:
            found = remote.getAllProcessInfo()
        return {
            info["name"]: ProgramInfo(
                info["name"], info["statename"], info["pid"] or None, info["exitstatus"]
            )
            for info in found
        }

    def start_group(self, group: str) -> None:
        """Start a group's programs; does not wait for them."""
        with self._remote() as remote:
            remote.startProcessGroup(group, False)

    def start(self, group: str, name: str) -> None:
        """Start one program; does not wait for it."""
        with self._remote() as remote:
            remote.startProcess(f"{group}:{name}", False)

    def stop(self, group: str, name: str) -> None:
        """Stop one program with SIGTERM, later SIGKILL; return when it has exited."""
        with self._remote() as remote:
            remote.stopProcess(f"{group}:{name}", True)

    def shutdown(self) -> None:
        """Stop all programs, services before storage, then supervisord; does not wait."""
        with self._remote() as remote:
            remote.shutdown()

    @contextlib.contextmanager
    def _remote(self) -> Iterator[Any]:
        """A connection for one call: connections are cheap, and not safe for threads."""
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        # The client requires a host, and does not use it.
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            yield proxy.supervisor
        except xmlrpc.client.Fault as fault:
            raise OperationFailed(f"the process manager failed: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise OperationFailed(
                "the process manager does not answer: run `./postjournal down`"
            ) from error
        finally:
            transport.close()


def launch(layout: Layout, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start supervisord in its own session, so that Ctrl-C in the terminal does not reach it."""
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
    """Return what supervisord printed before it opened its log, when it failed to start."""
    return _output(layout).read_text(errors="replace").strip()


def _output(layout: Layout) -> Path:
    return layout.log("supervisord-start")
