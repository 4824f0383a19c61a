"""A Postjournal system on this machine: starting, status, faults, stopping."""

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
    OnStep,
    ReadinessWaiter,
    StartupStep,
    ignore_step,
    service_checks,
    storage_checks,
)
from postjournal.cli.local.redis_server import redis_configuration
from postjournal.cli.local.status import (
    NOT_RUNNING,
    ReplicaRow,
    StateResponse,
    SystemStatus,
    fetch_states,
    local_status,
    no_engine,
    running_engine,
)
from postjournal.cli.local.supervisor import ProgramInfo, Supervisor, launch, launch_errors
from postjournal.config.settings import (
    ALLOW_CRASH,
    API_TOKEN,
    APP,
    DEDUPE_WINDOW,
    NAMESPACE,
    SNAPSHOT_URL,
)
from postjournal.config.variables import process_environment

LOCK_TIMEOUT_S = 120.0
STORAGE_TIMEOUT_S = 90.0
SERVICES_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 45.0
SERVICE_END_TIMEOUT_S, STORAGE_END_TIMEOUT_S = 8.0, 20.0
SOCKET_DIRECTORY = "postjournal-"
MAX_SOCKET_PATH = 90  # of 104 (macOS); supervisord appends its pid for a moment


class LocalSystem:
    """The system in one state directory, which need not exist; creating an object starts nothing.

    Any number of objects and processes may refer to the same system.

    `prefer_well_known_ports`: 9092, 8080 and so on, as an operator expects; otherwise all ports
    are free ones, so that several systems can run. `environment`: added to the services' own.
    """

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        *,
        prefer_well_known_ports: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.layout = Layout(directory.resolve())
        self._prefer_well_known_ports = prefer_well_known_ports
        self._environment = dict(environment or {})
        self._supervisord: subprocess.Popen[bytes] | None = None

    @property
    def plan(self) -> Plan:
        """The running system's record; raises `OperationFailed` when it is not running."""
        plan = read_plan(self.layout)
        if plan is None or not self.has_processes():
            raise NotFound(NOT_RUNNING)
        return plan

    def is_running(self) -> bool:
        """Whether the process manager runs; its services may still be starting."""
        plan = read_plan(self.layout)
        return plan is not None and processes.has_manager(processes.of_system(plan.token))

    def has_processes(self) -> bool:
        """Whether any process of the system runs, with or without the process manager."""
        plan = read_plan(self.layout)
        return plan is not None and bool(processes.of_system(plan.token))

    @property
    def is_owner(self) -> bool:
        """Whether this object started the running system."""
        return self._supervisord is not None

    def start(self, replicas: int = 3, shards: int = 1, on_step: OnStep = ignore_step) -> None:
        """Start everything and return when it is ready; on failure, stop everything again."""
        with self._starting(replicas, shards, on_step) as waiting:
            supervisor = self._supervisor()
            supervisor.start_group(SERVICES)
            waiting.wait(service_checks(self.plan, supervisor.programs), SERVICES_TIMEOUT_S)

    def start_storage(self, on_step: OnStep = ignore_step) -> None:
        """Start only Kafka and Redis, and return when they are ready."""
        with self._starting(0, 1, on_step):
            pass

    def stop(self) -> None:
        """Stop every process of the system, paused ones too: services first, Kafka last."""
        with self._locked():
            self._stop()

    def delete_data(self) -> None:
        """Delete all data, including the journal. Raises `OperationFailed` if it is running."""
        with self._locked():
            if self.has_processes():
                raise OperationFailed("the system is running: run `./postjournal down` first")
            shutil.rmtree(self.layout.data, ignore_errors=True)

    def status(self) -> SystemStatus:
        """Fetch the state of every replica and service."""
        plan = self.plan
        return local_status(plan, self.layout, Supervisor(plan.socket).programs())

    def settings(self) -> dict[str, str]:
        """Return the environment variables of clients of this system, credentials included."""
        return service_environment(self.plan)

    def state_fetcher(self) -> Callable[[], dict[str, StateResponse | None]]:
        """Return a function that fetches the state of all replicas."""
        return partial(fetch_states, self.plan)

    def kill(self, name: str) -> int:
        """Send SIGKILL to a whole service; return its pid. It is restarted, a replica after 3 s."""
        return self._signal(name, signal.SIGKILL)

    def pause(self, name: str) -> int:
        """Send SIGSTOP to all processes of a service; return its pid."""
        return self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> int:
        """Send SIGCONT to all processes of a service; return its pid."""
        return self._signal(name, signal.SIGCONT)

    def signal_engine(self, row: ReplicaRow, number: signal.Signals) -> int:
        """Send a signal to the engine of one shard; return its pid.

        Raises `OperationFailed` when the engine is not running.
        """
        pid = running_engine(row)
        if not processes.send_signal(pid, number, self.plan.token):
            raise no_engine(row)
        return pid

    def stop_replica(self, name: str) -> None:
        """Stop a service with SIGTERM; it stays down."""
        self._program(name)
        self._supervisor().stop(_group(name), name)

    def start_replica(self, name: str) -> None:
        """Start a stopped service without delay; does not wait until it is ready."""
        self._program(name)
        self.layout.started_mark(name).unlink(missing_ok=True)
        self._supervisor().start(_group(name), name)

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.plan.socket)

    def _program(self, name: str) -> ProgramInfo:
        known = self._supervisor().programs()
        if name not in known:
            raise NotFound(f"there is no service {name}; services: {', '.join(sorted(known))}")
        return known[name]

    def _signal(self, name: str, signal_number: signal.Signals) -> int:
        program = self._program(name)
        if program.pid is None or processes.is_shell(program.pid):
            raise OperationFailed(f"{name} is not running now; see `./postjournal status`")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal_number)  # supervisord gives each program a group
        return program.pid

    @contextlib.contextmanager
    def _starting(self, replicas: int, shards: int, on_step: OnStep) -> Iterator[ReadinessWaiter]:
        """Start storage and yield; any exception stops the system again."""
        with self._locked():
            if self.is_running():
                raise AlreadyRunning("the system is already running")
            self._stop()  # processes that a killed process manager may have left
            self._prepare(replicas, shards, on_step)
            try:
                supervisor = self._launch()
                waiting = ReadinessWaiter(self.layout, supervisor.programs, on_step)
                supervisor.start_group(STORAGE)
                waiting.wait(storage_checks(self.plan), STORAGE_TIMEOUT_S)
                yield waiting
            except BaseException:
                on_step(StartupStep("", "stopping everything"))
                self._stop()
                raise

    def _prepare(self, replicas: int, shards: int, on_step: OnStep) -> None:
        check_directory(self.layout.directory)
        check_java()
        self.layout.create()
        for mark in self.layout.run.glob("*.started"):
            mark.unlink()
        libraries = ensure_jars(lambda text: on_step(StartupStep("kafka", text)))
        plan = self._make_plan(replicas, shards, on_step)
        self._write_configuration(plan, libraries)
        on_step(StartupStep("kafka", "preparing its storage"))
        format_storage(self.layout, libraries)
        write_plan(self.layout, plan)

    def _make_plan(self, replicas: int, shards: int, on_step: OnStep) -> Plan:
        environment = process_environment(self._environment)
        wanted = well_known_ports(replicas)
        ports = choose_ports(wanted, prefer_wanted=self._prefer_well_known_ports)
        if self._prefer_well_known_ports:
            for message in moved_ports(wanted, ports):
                on_step(StartupStep("", message))
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
        """Only an interactive system has one: tests and benches need no protection."""
        if not self._prefer_well_known_ports:
            return ""
        return API_TOKEN.read(environment) or secrets.token_urlsafe(16)

    def _socket_path(self) -> str:
        """In the state directory, unless that exceeds the kernel's limit on socket paths."""
        path = self.layout.run / "supervisord.sock"
        path.unlink(missing_ok=True)
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
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
        while not supervisor.is_up():
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
                self._stop_with_supervisor(plan)
                self._stop_leftovers(plan)
        if self._supervisord is not None:
            self._supervisord.wait()
            self._supervisord = None
        self.layout.plan.unlink(missing_ok=True)
        _remove_socket_directory(Path(plan.socket).parent)

    def _stop_with_supervisor(self, plan: Plan) -> None:
        supervisor = Supervisor(plan.socket)
        if not supervisor.is_up():
            return
        supervisor.shutdown()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while processes.of_system(plan.token) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _stop_leftovers(self, plan: Plan) -> None:
        """Stop what the process manager left, in the same order."""
        left = processes.of_system(plan.token)
        storage = processes.of_group(left, STORAGE)
        services = [process for process in left if process not in storage]
        processes.end(services, SERVICE_END_TIMEOUT_S)
        processes.end(storage, STORAGE_END_TIMEOUT_S)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that allows one start or stop at a time."""
        self.layout.directory.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("w") as lock:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while not _try_lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise OperationFailed("another `up` or `down` is still in progress")
                time.sleep(0.1)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_socket_directory(directory: Path) -> None:
    """supervisord removes the socket itself, unless it was killed."""
    if directory.parent == Path(tempfile.gettempdir()) and directory.name.startswith(
        SOCKET_DIRECTORY
    ):
        shutil.rmtree(directory, ignore_errors=True)


def _group(name: str) -> str:
    return STORAGE if name in ("kafka", "redis") else SERVICES
