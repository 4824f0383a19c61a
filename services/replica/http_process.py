"""`python -m services.replica.http_process`: HTTP, status records and topics of one replica.

A child of the replica's main process, which restarts it: whatever its clients do, the engines and
the tripwire do not notice.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

import msgspec
import waitress

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.kafka.producer import RecordProducer
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.adapters.process.channel import Channel
from postjournal.adapters.process.child import die_with_parent
from postjournal.app import load_application
from postjournal.cluster.status import StatusRecord
from postjournal.cluster.topics import Topics
from postjournal.config.settings import API_TOKEN, Settings, StoreSettings
from postjournal.core.errors import BrokersLost, ConfigurationError, JournalUnavailable
from services.process import EXIT_CONFIGURATION, configure_logging, exit_when_a_thread_fails
from services.replica import messages as m
from services.replica.child import Inherited, inherited
from services.replica.engines import Engines
from services.replica.http import make_app
from services.replica.snapshots import check_store

log = logging.getLogger("replica")

HTTP_THREADS = 16
"""More than the usual number of reads that wait for a state, so that `/livez` is answered too."""

MAX_CONNECTIONS = 4_000
"""Connections that are open at once, slow clients' included; further ones wait."""

IDLE_S = 30
"""A connection on which nothing happens for this long is closed, within a request as well."""

NICE = 5
"""Engines come first when cores are scarce, also while this process dies with its replica."""

TURNING_S = 1.0
FLUSH_S = 1.0


class HttpProcess:
    """Everything of the process. The event loop owns it; HTTP has threads of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        application = load_application(settings.app)
        self._topics = Topics.of(settings.namespace, application.sources, application.sinks)
        self._producer: RecordProducer | None = None  # None: Kafka was not reached yet
        self._engines = Engines(settings.shards, self._publish)
        self._exit_code: asyncio.Future[int]
        self._channel: Channel

    async def run(self, channel: int, listener: socket.socket) -> int:
        """Serve until the parent requests a stop; return the exit code."""
        loop = asyncio.get_running_loop()
        self._exit_code = loop.create_future()
        self._channel = Channel(
            socket.socket(fileno=channel),
            m.ToHttp,
            self._on_message,
            lambda: os._exit(1),  # the parent is dead
        )
        self._serve(listener)
        turning = asyncio.create_task(self._turn())
        preparing = loop.run_in_executor(None, self._prepare)
        preparing.add_done_callback(self._on_prepared)
        code = await self._exit_code
        turning.cancel()
        if self._producer is not None:
            self._producer.flush(FLUSH_S)
        return code

    def _end(self, code: int) -> None:
        if not self._exit_code.done():
            self._exit_code.set_result(code)

    # --- Kafka --------------------------------------------------------------------------------

    def _prepare(self) -> RecordProducer:
        """Create the topics. Raises `ConfigurationError`, `JournalUnavailable`."""
        settings = self._settings
        kafka = wait_for_kafka(settings.kafka, is_stopping=self._exit_code.done)
        ensure_topics(
            kafka,
            self._topics,
            TopicPlan.of(settings),
            is_stopping=self._exit_code.done,
        )
        return RecordProducer(kafka_settings.control_producer(settings.kafka), is_watched=True)

    def _on_prepared(self, prepared: asyncio.Future[RecordProducer]) -> None:
        error = prepared.exception()
        if error is None:
            self._producer = prepared.result()
            self._channel.send(m.Ready())
        elif isinstance(error, ConfigurationError):
            log.critical("configuration: %s", error)
            self._end(EXIT_CONFIGURATION)
        elif not self._exit_code.done():
            log.critical("cannot start: %s", error)
            self._end(1)

    def _publish(self, shard: int, record: StatusRecord) -> None:
        producer = self._producer
        if producer is None:
            return
        value, key = msgspec.json.encode(record), self._settings.replica.encode()
        try:
            producer.send(self._topics.status, value, key=key, partition=shard)
        except JournalUnavailable as error:
            log.warning("shard %d: cannot publish a status record: %s", shard, error)

    async def _turn(self) -> None:
        while True:
            self._channel.send(m.Turning())
            try:
                if self._producer is not None:
                    self._producer.poll(0)
            except BrokersLost as error:
                log.critical("%s; the HTTP process exits to be restarted", error)
                self._end(1)
            await asyncio.sleep(TURNING_S)

    # --- the parent and HTTP ------------------------------------------------------------------

    def _on_message(self, message: m.ToHttp, descriptor: int | None) -> None:
        if isinstance(message, m.Report):
            self._engines.on_report(message)
        elif isinstance(message, m.Engines):
            self._engines.on_engines(message)
        elif isinstance(message, m.Link):
            assert descriptor is not None
            self._engines.all[message.shard].connect(descriptor)
        else:
            self._end(0)

    def _serve(self, listener: socket.socket) -> None:
        settings = self._settings
        crash_token = API_TOKEN.read() or "" if settings.allow_crash else None
        crash = lambda: self._channel.send_soon(m.Crash())  # noqa: E731
        app = make_app(settings.replica, self._engines, crash, crash_token)
        server = waitress.create_server(
            app,
            sockets=[listener],
            threads=HTTP_THREADS,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=IDLE_S,
            asyncore_use_poll=True,  # select() takes no descriptor above 1,023
        )
        loop = asyncio.get_running_loop()

        def serve() -> None:
            try:
                server.run()
            finally:  # without HTTP this process is of no use: its parent starts another one
                loop.call_soon_threadsafe(self._end, 1)

        threading.Thread(target=serve, daemon=True, name="http").start()


def _run(given: Inherited, listener: int) -> int:
    die_with_parent(given.parent)
    os.nice(NICE)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # for the whole group
    faulthandler.enable(given.words)
    settings = Settings.from_environment()
    check_store(StoreSettings.from_environment(), settings.namespace)
    process = HttpProcess(settings)
    return asyncio.run(process.run(given.channel, socket.socket(fileno=listener)))


def main(arguments: Sequence[str]) -> int:
    """Run the process; return the exit code. 78: a configuration error."""
    given, (listener, _) = inherited(arguments)
    try:
        configure_logging()
        exit_when_a_thread_fails()
        return _run(given, int(listener))
    except ConfigurationError as error:
        log.critical("configuration: %s", error)
        return EXIT_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
