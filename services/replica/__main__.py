"""`python -m services.replica`: a replica of every shard, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

from postjournal.config.settings import Settings
from postjournal.core.errors import ConfigurationError
from services.process import EXIT_CONFIGURATION, configure_logging
from services.replica.parent import Parent

log = logging.getLogger("replica")

BACKLOG = 1_024


async def _serve(settings: Settings) -> int:
    http = socket.create_server((settings.bind, settings.http_port), backlog=BACKLOG)
    tripwire = socket.create_server((settings.bind, settings.tripwire_port), backlog=BACKLOG)
    log.info(
        "%s: %d shard(s), HTTP at %s:%d",
        *(settings.replica, settings.shards, settings.advertise, settings.http_port),
    )
    return await Parent(settings, http, tripwire).run()


def main() -> int:
    """Run the replica; return the exit code.

    0 after SIGTERM; 78 for a configuration error, which a restart does not fix; otherwise 1.
    """
    try:
        configure_logging()
        return asyncio.run(_serve(Settings.from_environment()))
    except ConfigurationError as error:
        log.critical("configuration: %s", error)
        return EXIT_CONFIGURATION
    except OSError as error:
        log.critical("cannot start: %s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
