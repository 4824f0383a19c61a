"""The processes of a local system, as supervisord's configuration."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from postjournal.cli.local.kafka import ENVIRONMENT, broker_command
from postjournal.cli.local.layout import PROJECT_ROOT, Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.ports import HOST
from postjournal.cli.local.redis_server import redis_server
from postjournal.config.settings import ALLOW_CRASH, API_TOKEN, APP, DEDUPE_WINDOW, FSYNC

STORAGE, SERVICES = "storage", "services"
"""The two groups, in the order in which they start; they stop in reverse order."""

CONFIGURATION_EXIT = 78
"""EX_CONFIG of sysexits.h: a service that exits with it is not restarted."""

REPLICA_RESTART_S = 3.0
OTHER_RESTART_S = 0.5  # short, but a service that keeps exiting must not keep a core busy

# $0 is the mark, $1 the delay, which supervisord does not have. `exec`: supervisord knows the
# service's own pid. One line, because it is a value in supervisord's configuration file.
WAIT_THEN_RUN = 'test -e "$0" && sleep "$1"; : > "$0"; shift; exec "$@"'


@dataclass(frozen=True)
class Program:
    """One process, and how supervisord restarts and stops it."""

    name: str
    group: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    restart_s: float = OTHER_RESTART_S
    stop_wait_s: int = 8


def programs(plan: Plan, layout: Layout, kafka_libraries: Path) -> list[Program]:
    """Return every process of the system."""
    return [
        Program(
            "kafka",
            STORAGE,
            broker_command(kafka_libraries, layout.kafka_configuration),
            ENVIRONMENT,
            stop_wait_s=30,
        ),
        Program("redis", STORAGE, [redis_server(), str(layout.redis_configuration)]),
        *(_replica(plan, name) for name in plan.replica_names),
        _service(plan, "producer", "services.producer"),
        _service(plan, "consumer-results", "services.consumer", SINK="results"),
        _service(plan, "consumer-balances", "services.consumer", SINK="balances"),
        _service(plan, "leader-view", "services.leader_view"),
        _service(plan, "coordinator", "services.coordinator"),
    ]


def service_environment(plan: Plan) -> dict[str, str]:
    """Return the environment variables that all services share."""
    return {
        "POSTJOURNAL_BOOTSTRAP": plan.address("kafka"),
        "POSTJOURNAL_NAMESPACE": plan.namespace,
        "POSTJOURNAL_SHARDS": str(plan.shards),
        "POSTJOURNAL_REPLICATION": "1",
        "POSTJOURNAL_BIND": HOST,
        "POSTJOURNAL_ADVERTISE": HOST,
        "POSTJOURNAL_REDIS_URL": plan.redis_url,
        "POSTJOURNAL_SNAPSHOT_URL": plan.snapshot_url,
        "PYTHONUNBUFFERED": "1",
        **_fsync(),
        **_application(plan),
        **(_interactive(plan) if plan.is_interactive else {}),
        **plan.environment,
    }


def _fsync() -> dict[str, str]:
    """As this process has it, or not at all."""
    fsync = FSYNC.read()
    return {} if fsync is None else {FSYNC.name: str(int(fsync))}


def _application(plan: Plan) -> dict[str, str]:
    """The defaults too: `verify` may run in a shell whose variables differ."""
    if not plan.application:
        return {}
    return {APP.name: plan.application, DEDUPE_WINDOW.name: str(plan.dedupe_window)}


def _interactive(plan: Plan) -> dict[str, str]:
    return {API_TOKEN.name: plan.api_token, ALLOW_CRASH.name: str(int(plan.may_crash))}


def _service(plan: Plan, name: str, module: str, **environment: str) -> Program:
    ports = {
        "POSTJOURNAL_GATEWAY_PORT": str(plan.ports["producer"]),
        "POSTJOURNAL_METRICS_PORT": str(plan.ports[f"{name}/metrics"]),
        "POSTJOURNAL_COORDINATOR_PORT": str(plan.ports["coordinator"]),
    }
    return Program(name, SERVICES, [sys.executable, "-m", module], {**ports, **environment})


def _replica(plan: Plan, name: str) -> Program:
    environment = {
        "POSTJOURNAL_REPLICA": name,
        "POSTJOURNAL_HTTP_PORT": str(plan.ports[name]),
        "POSTJOURNAL_TRIPWIRE_PORT": str(plan.ports[f"{name}/tripwire"]),
    }
    if f"{name}/proxy" in plan.ports:  # a connection of its own to Kafka, for fault injection
        environment["POSTJOURNAL_BOOTSTRAP"] = plan.address(f"{name}/proxy")
    command = [sys.executable, "-m", "services.replica"]
    return Program(name, SERVICES, command, environment, REPLICA_RESTART_S)


def supervisor_configuration(plan: Plan, layout: Layout, all_programs: list[Program]) -> str:
    """Return supervisord.conf. Nothing starts automatically: services start after Kafka is up."""
    sections = [_global_sections(plan, layout)]
    for priority, group in enumerate((STORAGE, SERVICES), start=1):
        names = ",".join(p.name for p in all_programs if p.group == group)
        sections.append(f"[group:{group}]\nprograms={names}\npriority={priority}\n")
    sections += [_program_section(layout, program) for program in all_programs]
    return "\n".join(sections)


def _global_sections(plan: Plan, layout: Layout) -> str:
    return f"""\
[supervisord]
nodaemon=true
silent=true
logfile={_escape(str(layout.log("supervisord")))}
logfile_maxbytes=1MB
logfile_backups=1
pidfile={_escape(str(layout.run / "supervisord.pid"))}
childlogdir={_escape(str(layout.logs))}

[unix_http_server]
file={_escape(plan.socket)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


def _program_section(layout: Layout, program: Program) -> str:
    mark, delay = str(layout.started_mark(program.name)), str(program.restart_s)
    command = shlex.join(["sh", "-c", WAIT_THEN_RUN, mark, delay, *program.command])
    log = str(layout.log(program.name))  # expanded twice
    environment = ",".join(f'{key}="{value}"' for key, value in program.environment.items())
    return f"""\
[program:{program.name}]
command={_escape(command)}
directory={_escape(str(PROJECT_ROOT))}
environment={_escape(environment)}
autostart=false
autorestart=unexpected
exitcodes={CONFIGURATION_EXIT}
startsecs=0
stopsignal=TERM
stopwaitsecs={program.stop_wait_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_escape(_escape(log))}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""


def _escape(value: str) -> str:
    """Escape a value: supervisord ends it at ` ;` or ` #`, and expands %(…)s afterwards.

    `%(here).0s` expands to nothing.
    """
    return re.sub(r"(\s)([;#])", r"\1%(here).0s\2", value.replace("%", "%%"))
