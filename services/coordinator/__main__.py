"""`python -m services.coordinator`: the coordinator's HTTP server and its maintenance thread."""

from __future__ import annotations

from functools import partial

from postjournal.config.settings import CoordinatorSettings, Settings, StoreSettings
from postjournal.core.errors import ConfigurationError
from services.coordinator.page.stream import MAX_STREAMS
from services.coordinator.wiring import start
from services.process import run
from services.server import Server, ServerOptions

THREADS = MAX_STREAMS + 16
"""Each open live page occupies a thread; 16 remain for all other requests."""


def main() -> None:
    """Serve until SIGTERM. Raises `ConfigurationError`."""
    settings, own = Settings.from_environment(), CoordinatorSettings.from_environment()
    store = StoreSettings.from_environment()
    if store is None:
        raise ConfigurationError(
            "POSTJOURNAL_SNAPSHOT_URL is not set: set it to the URL of the snapshot store, "
            "s3://BUCKET/PREFIX?endpoint=http://HOST:PORT or file:///DIRECTORY"
        )
    begin = partial(start, settings, own, store)
    Server(ServerOptions("coordinator", own.port, THREADS), settings, begin).serve()


if __name__ == "__main__":
    run(main)
