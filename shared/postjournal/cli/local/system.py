"""A whole Postjournal system on this machine: started, watched, harmed and stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from postjournal.cli.errors import AlreadyRunning, NotFound, OperationFailed
from postjournal.cli.interruption import uninterrupted
from postjournal.cli.local import processes
from postjournal.cli.local.kafka import (
    broker_properties,
    check_directory,
    check_java,
    format_storage,
)
from postjournal.cli.local.kafka_jars import ensure_jars
from postjournal.cli.local.layout import DEFAULT_DIRECTORY, Layout
from postjournal.cli.local.plan import Plan, read_plan, write_plan
from postjournal.cli.local.ports import choose_ports, moved_ports, well_known_ports
from postjournal.cli.local.programs import (
    SERVICES,
    STORAGE,
    programs,
    service_environment,
    supervisor_configuration,
)
from postjournal.cli.local.readiness import (
    OnProgress,
    Progress,
    Waiting,
    ignore_progress,
    service_checks,
    storage_checks,
)
from postjournal.cli.local.redis_server import redis_configuration
from postjournal.cli.local.status import StateAnswer, SystemStatus, ask_replicas, collect
from postjournal.cli.local.supervisor import Program, Supervisor, launch, launch_errors
from postjournal.config.settings import (
    ALLOW_CRASH,
    API_TOKEN,
    APP,
    DEDUPE_WINDOW,
    NAMESPACE,
    SNAPSHOT_URL,
)
from postjournal.config.variables import process_environment

LOCK_PATIENCE_S = 120.0
STORAGE_PATIENCE_S = 90.0
SERVICES_PATIENCE_S = 120.0
STOP_PATIENCE_S = 45.0
SOCKET_DIRECTORY = "postjournal-"
LONGEST_SOCKET_PATH = 90  # of 104 (macOS); supervisord appends its pid for a moment


class LocalSystem:
    """The system in one state directory; any process may hold an object for it.

    `prefer_well_known_ports`: 9092, 8080 and so on, for people; otherwise all ports are free
    ones, so that systems run side by side. `environment` is added to the services' own.
    """

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        *,
        prefer_well_known_ports: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts nothing; `directory` need not exist."""
        self.layout = Layout(directory.resolve())
        self._prefer_well_known_ports = prefer_well_known_ports
        self._environment = dict(environment or {})
        self._supervisord: subprocess.Popen[bytes] | None = None

    @property
    def plan(self) -> Plan:
        """Where the running system listens; raises `OperationFailed` when none is running."""
        plan = read_plan(self.layout)
        if plan is None or not self.has_processes():
            raise NotFound("the system is not running: start it with `./postjournal up`")
        return plan

    def is_running(self) -> bool:
        """Whether there is a process manager; its services may still be starting."""
        plan = read_plan(self.layout)
        return plan is not None and processes.has_manager(processes.of_system(plan.token))

    def has_processes(self) -> bool:
        """Whether anything of the system is alive, with or without the process manager."""
        plan = read_plan(self.layout)
        return plan is not None and bool(processes.of_system(plan.token))

    @property
    def is_own(self) -> bool:
        """Whether this object started it, and did not stop it yet."""
        return self._supervisord is not None

    def start(
        self, replicas: int = 3, shards: int = 1, on_progress: OnProgress = ignore_progress
    ) -> None:
        """Start everything and return when it is ready; on failure everything is stopped again."""
        with self._starting(replicas, shards, on_progress) as waiting:
            supervisor = self._supervisor()
            supervisor.start_group(SERVICES)
            waiting.wait(service_checks(self.plan, supervisor.programs), SERVICES_PATIENCE_S)

    def start_storage(self, on_progress: OnProgress = ignore_progress) -> None:
        """Start only Kafka and Redis."""
        with self._starting(0, 1, on_progress):
            pass

    def stop(self) -> None:
        """End every process of the system: services first, Kafka last; paused ones as well."""
        with self._locked():
            self._stop()

    def delete_data(self) -> None:
        """Forget the journal and all else; the system must not be running."""
        with self._locked():
            if self.has_processes():
                raise OperationFailed("the system is running: run `./postjournal down` first")
            shutil.rmtree(self.layout.data, ignore_errors=True)

    def status(self) -> SystemStatus:
        """What every replica and service is doing."""
        plan = self.plan
        return collect(plan, self.layout, Supervisor(plan.socket).programs())

    def settings(self) -> dict[str, str]:
        """The environment variables by which a client reaches this system, credentials included."""
        return service_environment(self.plan)

    def accounts(self) -> Callable[[], dict[str, StateAnswer | None]]:
        """Asks the replicas for their own accounts, as often as it is called."""
        return partial(ask_replicas, self.plan)

    def kill(self, name: str) -> int:
        """SIGKILL to a service; its pid. It is started again: a replica after 3 s."""
        return self._signal(name, signal.SIGKILL)

    def pause(self, name: str) -> int:
        """SIGSTOP to a service; its pid."""
        return self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> int:
        """SIGCONT to a service; its pid."""
        return self._signal(name, signal.SIGCONT)

    def stop_replica(self, name: str) -> None:
        """Stop a service gracefully (SIGTERM); it stays down."""
        self._program(name)
        self._supervisor().stop(_group(name), name)

    def start_replica(self, name: str) -> None:
        """Start a stopped service, at once; does not wait until it is ready."""
        self._program(name)
        self.layout.started_mark(name).unlink(missing_ok=True)
        self._supervisor().start(_group(name), name)

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.plan.socket)

    def _program(self, name: str) -> Program:
        known = self._supervisor().programs()
        if name not in known:
            raise NotFound(f"there is no {name}; there are: {', '.join(sorted(known))}")
        return known[name]

    def _signal(self, name: str, signal_number: signal.Signals) -> int:
        program = self._program(name)
        if program.pid is None or processes.is_shell(program.pid):
            raise OperationFailed(f"{name} is not running now; see `./postjournal status`")
        with contextlib.suppress(ProcessLookupError):
            os.kill(program.pid, signal_number)
        return program.pid

    @contextlib.contextmanager
    def _starting(self, replicas: int, shards: int, on_progress: OnProgress) -> Iterator[Waiting]:
        """Storage is up inside; anything that is raised inside stops the system again."""
        with self._locked():
            if self.is_running():
                raise AlreadyRunning("the system is already running")
            self._stop()  # what a killed process manager may have left
            self._prepare(replicas, shards, on_progress)
            try:
                supervisor = self._launch()
                waiting = Waiting(self.layout, supervisor.programs, on_progress)
                supervisor.start_group(STORAGE)
                waiting.wait(storage_checks(self.plan), STORAGE_PATIENCE_S)
                yield waiting
            except BaseException:
                on_progress(Progress("", "stopping everything again"))
                self._stop()
                raise

    def _prepare(self, replicas: int, shards: int, on_progress: OnProgress) -> None:
        check_directory(self.layout.directory)
        check_java()
        self.layout.create()
        for mark in self.layout.run.glob("*.started"):
            mark.unlink()
        libraries = ensure_jars(lambda text: on_progress(Progress("kafka", text)))
        plan = self._make_plan(replicas, shards, on_progress)
        self._write_configuration(plan, libraries)
        on_progress(Progress("kafka", "preparing its storage"))
        format_storage(self.layout, libraries)
        write_plan(self.layout, plan)

    def _make_plan(self, replicas: int, shards: int, on_progress: OnProgress) -> Plan:
        environment = process_environment(self._environment)
        wanted = well_known_ports(replicas)
        ports = choose_ports(wanted, prefer_wanted=self._prefer_well_known_ports)
        if self._prefer_well_known_ports:
            for sentence in moved_ports(wanted, ports):
                on_progress(Progress("", sentence))
        return Plan(
            token=secrets.token_hex(16),
            api_token=self._api_token(environment),
            directory=str(self.layout.directory),
            namespace=NAMESPACE.read(environment),
            replicas=replicas,
            shards=shards,
            ports=ports,
            socket=self._socket_path(),
            environment=self._environment,
            snapshot_url=SNAPSHOT_URL.read(environment) or self.layout.snapshots.as_uri(),
            may_crash=not environment.get(ALLOW_CRASH.name) or ALLOW_CRASH.read(environment),
            application=APP.read(environment),
            dedupe_window=DEDUPE_WINDOW.read(environment),
        )

    def _api_token(self, environment: Mapping[str, str]) -> str:
        """Only what people start has one: tests and benches press no buttons."""
        if not self._prefer_well_known_ports:
            return ""
        return API_TOKEN.read(environment) or secrets.token_urlsafe(16)

    def _socket_path(self) -> str:
        """In the state directory, unless the kernel's limit on such paths forbids it."""
        path = self.layout.run / "supervisord.sock"
        path.unlink(missing_ok=True)
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return str(path)
        return str(Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY)) / "s")

    def _write_configuration(self, plan: Plan, libraries: Path) -> None:
        layout, ports = self.layout, plan.ports
        all_programs = programs(plan, layout, libraries)
        layout.kafka_configuration.write_text(
            broker_properties(layout.kafka_data, ports["kafka"], ports["kafka-controller"])
        )
        layout.redis_configuration.write_text(
            redis_configuration(layout.redis_data, ports["redis"])
        )
        layout.supervisor_configuration.write_text(
            supervisor_configuration(plan, layout, all_programs)
        )

    def _launch(self) -> Supervisor:
        plan = read_plan(self.layout)
        assert plan is not None
        environment = {processes.TOKEN: plan.token, **service_environment(plan)}
        self._supervisord = launch(self.layout, environment)
        supervisor = Supervisor(plan.socket)
        while not supervisor.answers():
            if self._supervisord.poll() is not None:
                raise OperationFailed(
                    f"the process manager did not start: {launch_errors(self.layout)}"
                )
            time.sleep(0.02)
        return supervisor

    def _stop(self) -> None:
        plan = read_plan(self.layout)
        if plan is None:
            return
        if self.has_processes():
            with uninterrupted():
                processes.resume(processes.of_system(plan.token))
                self._stop_by_supervisor(plan)
                self._stop_leftovers(plan)
        if self._supervisord is not None:
            self._supervisord.wait()
            self._supervisord = None
        self.layout.plan.unlink(missing_ok=True)
        _remove_socket_directory(Path(plan.socket).parent)

    def _stop_by_supervisor(self, plan: Plan) -> None:
        supervisor = Supervisor(plan.socket)
        if not supervisor.answers():
            return
        supervisor.shutdown()
        deadline = time.monotonic() + STOP_PATIENCE_S
        while processes.of_system(plan.token) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _stop_leftovers(self, plan: Plan) -> None:
        """When the process manager is gone: its place is taken, in the same order."""
        left = processes.of_system(plan.token)
        storage = processes.of_group(left, STORAGE)
        processes.end([process for process in left if process not in storage], patience_s=8)
        processes.end(storage, patience_s=20)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One start or stop at a time."""
        self.layout.directory.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("w") as lock:
            deadline = time.monotonic() + LOCK_PATIENCE_S
            while not _try_lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise OperationFailed("another `up` or `down` is still under way")
                time.sleep(0.1)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_socket_directory(directory: Path) -> None:
    """supervisord has removed the socket, unless it was killed."""
    if directory.parent == Path(tempfile.gettempdir()) and directory.name.startswith(
        SOCKET_DIRECTORY
    ):
        shutil.rmtree(directory, ignore_errors=True)


def _group(name: str) -> str:
    return STORAGE if name in ("kafka", "redis") else SERVICES
