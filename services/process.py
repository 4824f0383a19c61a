"""Logging, signals and exit codes of the services' processes."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from threading import Event
from types import FrameType

import msgspec

from postjournal.adapters.process import pulse
from postjournal.config.settings import LOG_FORMAT
from postjournal.config.variables import Environment
from postjournal.core.errors import ConfigurationError

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: a restart does not help, the configuration must change."""

log = logging.getLogger(__name__)

REQUESTS = logging.getLogger("postjournal.requests")
"""Logs each request, with POSTJOURNAL_LOG_FORMAT=json only."""

STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, pid, thread, any `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": f"{_utc(record.created)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            "thread": record.threadName,
        }
        fields |= {k: v for k, v in record.__dict__.items() if k not in STANDARD_FIELDS}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()


def configure_logging(environment: Environment | None = None) -> None:
    """Log to stderr, one line per event, times in UTC.

    POSTJOURNAL_LOG_FORMAT selects text (the default) or json (see `JsonFormatter`); only json logs
    each request to the gateway. Raises `ConfigurationError`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(LOG_FORMAT.read(environment)))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _formatter(name: str) -> logging.Formatter:
    if name == "json":
        return JsonFormatter()
    REQUESTS.setLevel(logging.WARNING)
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    return formatter


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def exit_when_a_thread_fails() -> None:
    """End this process with code 1 when any thread ends by an exception.

    Whatever the thread was there for would never be done again, while the process seems to work.
    Its process manager starts another one. Not for the main process of a replica, which must not
    fail, and whose threads only report sooner what it learns anyway.
    """
    threading.excepthook = _exit


def _exit(failed: threading.ExceptHookArgs) -> None:
    if issubclass(failed.exc_type, SystemExit):
        return  # a thread may end itself
    name = failed.thread.name if failed.thread is not None else "unknown"
    log.critical("the thread %s has failed; the process exits", name, exc_info=failed.exc_value)
    logging.shutdown()
    os._exit(1)


WATCH_S = 1.0
PAUSED_S = 3.0
"""Between two looks; then the whole process was stopped."""


def exit_when_a_thread_hangs() -> None:
    """End this process with code 1 when a loop of it does not turn; see `Pulse`.

    The stack traces of all threads are in its output. Call it in the process that has the threads.
    """
    threading.Thread(target=_watch_pulses, name="watchdog", daemon=True).start()


def _watch_pulses() -> None:
    while True:
        before_s = time.monotonic()
        time.sleep(WATCH_S)
        if time.monotonic() - before_s > PAUSED_S:
            pulse.forgive()
        hung = pulse.hung_threads()
        if hung is not None:
            log.critical("%s; the process exits", hung)
            logging.shutdown()
            faulthandler.dump_traceback(all_threads=True)
            os._exit(1)


def stop_on_signal() -> Event:
    """Return an event that SIGTERM and SIGINT set. Call it in the main thread."""
    stop = Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def run(main: Callable[[], None]) -> None:
    """Configure logging and call `main`; logs a `ConfigurationError` and exits with code 78."""
    try:
        configure_logging()
        exit_when_a_thread_fails()
        main()
    except ConfigurationError as error:
        log.critical("configuration: %s", error)
        sys.exit(EXIT_CONFIGURATION)
