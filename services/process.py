"""What every service's process does alike: logging, signals, exit codes."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from threading import Event
from types import FrameType

from postjournal.core.errors import ConfigurationError

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: restarting does not help; somebody must change the configuration."""

log = logging.getLogger(__name__)


def configure_logging() -> None:
    """One line per event on stderr, times in UTC."""
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def stop_on_signal() -> Event:
    """Set by SIGTERM and SIGINT."""
    stop = Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def run(main: Callable[[], None]) -> None:
    """Call `main`; a wrong configuration is one line and exit code 78, not a traceback."""
    configure_logging()
    try:
        main()
    except ConfigurationError as error:
        log.critical("configuration: %s", error)
        sys.exit(EXIT_CONFIGURATION)
