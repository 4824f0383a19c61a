"""Docker and Docker Compose: whether they can be used, and running them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT
from postjournal.config.variables import process_environment

STDERR = 2
COMPOSE_FILE = PROJECT_ROOT / "compose.yaml"
COMMAND_TIMEOUT_S = 30.0


def project() -> str:
    """Return the name of the Compose project, the prefix of containers, networks and volumes."""
    return process_environment().get("COMPOSE_PROJECT_NAME") or "postjournal"


def check_usable() -> None:
    """Raise `OperationFailed` unless `docker compose` can start the system."""
    if not COMPOSE_FILE.exists():
        raise OperationFailed(f"{COMPOSE_FILE.name} is missing: use `./postjournal up --local`")
    if shutil.which("docker") is None:
        raise OperationFailed("docker was not found: install it, or use `./postjournal up --local`")
    if not _engine_is_up():
        raise OperationFailed(
            "the Docker engine does not answer (`docker info`): start it, or use "
            "`./postjournal up --local`"
        )


def is_usable() -> bool:
    """Whether `docker compose` can start the system."""
    try:
        check_usable()
    except OperationFailed:
        return False
    return True


def run(*arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> bytes:
    """Run `docker ARGUMENTS` and return its stdout. Raises `OperationFailed` with its stderr."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            cwd=PROJECT_ROOT,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise OperationFailed("docker was not found") from error
    except subprocess.TimeoutExpired as error:
        raise OperationFailed(
            f"docker {arguments[0]} did not finish within {timeout_s:g} s"
        ) from error
    if done.returncode != 0:
        stderr = done.stderr.decode(errors="replace").strip()
        raise OperationFailed(f"docker {arguments[0]} failed: {stderr}")
    return done.stdout


def compose(arguments: Sequence[str]) -> None:
    """Run `docker compose ARGUMENTS` in the terminal. Raises `OperationFailed`."""
    follow(["compose", *arguments])


def follow(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    stdout: int | None = None,
) -> None:
    """Run `docker ARGUMENTS` in the terminal. Raises `OperationFailed`.

    `environment`: added to this process's; `stdout`: a file descriptor to use instead of this
    process's stdout.
    """
    done = subprocess.run(
        ["docker", *arguments],
        cwd=PROJECT_ROOT,
        env=process_environment(environment),
        stdout=stdout,
        check=False,
    )
    if done.returncode != 0:
        raise OperationFailed(f"docker {' '.join(arguments[:2])} failed; see its output above")


def up(replicas: int, shards: int, services: Sequence[str] = ()) -> None:
    """Build and start `services` (all by default); return when all are healthy."""
    arguments = ["up", "--build", "--detach", "--wait", "--scale", f"replica={replicas}"]
    _compose_to_stderr([*arguments, *services], {"POSTJOURNAL_SHARDS": str(shards)})


def services(without: Sequence[str]) -> list[str]:
    """Return all services but those of `without`. Raises `OperationFailed` for an unknown one."""
    known = run("compose", "config", "--services").decode().split()
    unknown = sorted(set(without) - set(known))
    if unknown:
        raise OperationFailed(f"there is no service {unknown[0]}; services: {', '.join(known)}")
    return [name for name in known if name not in without]


def down(wipe: bool) -> None:
    """Stop and remove the containers; with `wipe`, their volumes too."""
    _compose_to_stderr(["down", "--remove-orphans", *(["--volumes"] if wipe else [])])


def _compose_to_stderr(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> None:
    """Some versions report a build on stdout, which is for output that programs read."""
    follow(["compose", *arguments], environment, stdout=STDERR)


def _engine_is_up() -> bool:
    try:
        done = subprocess.run(
            ["docker", "info"], capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
