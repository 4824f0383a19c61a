"""The same system in containers, where there is a Docker engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import PROJECT_ROOT

COMPOSE_FILE = PROJECT_ROOT / "compose.yaml"


def check_usable() -> None:
    """Raise `OperationFailed` unless `docker compose` can start the system."""
    if not COMPOSE_FILE.exists():
        raise OperationFailed(f"{COMPOSE_FILE.name} is missing: use `./postjournal up --local`")
    if shutil.which("docker") is None:
        raise OperationFailed("docker was not found: install it, or use `./postjournal up --local`")
    if not _engine_answers():
        raise OperationFailed(
            "no Docker engine answers (`docker info`): start it, or use `./postjournal up --local`"
        )


def is_usable() -> bool:
    """Whether `docker compose` can start the system."""
    try:
        check_usable()
    except OperationFailed:
        return False
    return True


def is_up() -> bool:
    """Whether containers of the system are running."""
    if not is_usable():
        return False
    done = subprocess.run(
        ["docker", "compose", "ps", "--quiet"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=False,
    )
    return bool(done.stdout.strip())


def up(replicas: int, shards: int, detach: bool) -> None:
    """Build and start; in the foreground until Ctrl-C unless `detach`."""
    arguments = ["up", "--build", "--scale", f"replica={replicas}"]
    arguments += ["--detach", "--wait"] if detach else []
    _compose(arguments, {"POSTJOURNAL_SHARDS": str(shards)})


def down(wipe: bool) -> None:
    """Stop and remove the containers."""
    _compose(["down", *(["--volumes"] if wipe else [])], {})


def _compose(arguments: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["docker", "compose", *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode != 0:
        raise OperationFailed(f"docker compose {arguments[0]} failed (its messages are above)")


def _engine_answers() -> bool:
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
