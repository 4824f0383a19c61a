"""`python -m services.replica.engine`: the engine of one shard, as a child of its replica."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import msgspec

from postjournal.adapters.process.channel import Channel
from postjournal.adapters.process.child import die_with_parent
from postjournal.adapters.process.death_lock import DeathLock
from postjournal.adapters.process.gc_tuning import reduce_gc_frequency
from postjournal.adapters.process.inbox import Answer, QueueInbox
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.app import load_application
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings, StoreSettings
from postjournal.core import messages as core
from postjournal.core.errors import ConfigurationError
from postjournal.core.state.apply_guard import NONE, ApplyGuard
from services.process import EXIT_CONFIGURATION, configure_logging, exit_when_a_thread_fails
from services.replica import messages as m
from services.replica.child import Inherited, inherited, mark_in
from services.replica.metrics import collect
from services.replica.shard import Addresses, ShardRunner, Shared
from services.replica.snapshots import open_stores

log = logging.getLogger("replica")

LAST_MESSAGES_S = 1.0


class Connection:
    """The engine's side of its channels, in a thread of their own; also the `Tripwire` port.

    `inbox`, `wakeup`: of the engine; `last_end`, `fatal_offset`: of `Start`, valid after
    `wait_for_start`.
    """

    def __init__(self, channel: int) -> None:
        """Starts the thread. `channel`: the descriptor of the channel to the parent."""
        self.wakeup = Wakeup()
        self.inbox = QueueInbox(self.wakeup)
        self.last_end: str | None = None
        self.fatal_offset = NONE
        self._fired: SimpleQueue[core.Message] = SimpleQueue()
        self._known: SimpleQueue[str] = SimpleQueue()
        self._has_started = threading.Event()
        self._link: Channel | None = None
        self._loop = asyncio.new_event_loop()
        connected = socket.socket(fileno=channel)
        opened: Future[Channel] = Future()
        threading.Thread(
            target=self._run, args=(connected, opened), daemon=True, name="channel"
        ).start()
        self._channel = opened.result()

    def _run(self, connected: socket.socket, opened: Future[Channel]) -> None:
        async def open_channel() -> None:
            opened.set_result(Channel(connected, m.ToEngine, self._on_message, _exit_orphaned))

        self._loop.run_until_complete(open_channel())
        self._loop.run_forever()

    # --- for the engine's thread --------------------------------------------------------------

    def begin(self, incarnation: str) -> None:
        """Return when the parent knows the incarnation, whose leadership peers may then watch."""
        self._channel.send_soon(m.Begun(incarnation))
        while self._known.get() != incarnation:
            pass

    def wait_for_start(self) -> None:
        """Return when the topics exist, or when the engine is to stop."""
        self._has_started.wait()

    def report(self, shard: int, record: bytes) -> None:
        """Pass a status record on."""
        self._channel.send_soon(m.Report(shard, record))

    def watch(self, address: str, incarnation: str, epoch: int) -> None:
        self._channel.send_soon(m.Watch(address, incarnation, epoch))

    def unwatch(self) -> None:
        self._channel.send_soon(m.Unwatch())

    def poll(self) -> list[core.Message]:
        fired: list[core.Message] = []
        while not self._fired.empty():
            fired.append(self._fired.get())
        return fired

    def drain(self) -> None:
        """Return when all messages so far have left."""
        passed: Future[None] = Future()
        self._loop.call_soon_threadsafe(passed.set_result, None)
        passed.result(LAST_MESSAGES_S)

    # --- in the thread of the channels --------------------------------------------------------

    def _on_message(self, message: m.ToEngine, descriptor: int | None) -> None:
        if isinstance(message, m.Link):
            assert descriptor is not None
            self._open_link(socket.socket(fileno=descriptor))
        elif isinstance(message, m.Fired):
            self._fired.put(core.TripwireFired(message.epoch))
            self.wakeup.set()
        elif isinstance(message, m.Known):
            self._known.put(message.incarnation)
        elif isinstance(message, m.Start):
            self.last_end, self.fatal_offset = message.last_end, message.fatal_offset
            self._has_started.set()
        else:
            self.inbox.ask_to_stop()
            self._has_started.set()

    def _open_link(self, connected: socket.socket) -> None:
        if self._link is not None:
            self._link.close()
        self._link = link = Channel(
            connected,
            m.OverLinkToEngine,
            lambda message, _: self._on_request(link, message),
            lambda: None,
        )

    def _on_request(self, link: Channel, request: m.OverLinkToEngine) -> None:
        number = request.number
        if isinstance(request, m.Scrape):
            link.send(m.Samples(number, collect()))
            return
        answer = self.inbox.ask(
            request.query,
            linearizable=request.linearizable,
            min_seq=request.min_seq,
            timeout_ms=request.timeout_ms,
        )
        # Called by the engine's thread, which does not encode the result.
        answer.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(_answer, link, number, done.result())
        )


def _answer(link: Channel, number: int, answer: Answer) -> None:
    result, error = b"null", answer.error
    try:
        result = msgspec.json.encode(answer.result)
    except (TypeError, ValueError) as cause:
        error = f"the result of the query cannot be written as JSON: {cause}"
    link.send(m.Answer(number, result, answer.seq, answer.epoch, error))


def _exit_orphaned() -> None:
    """The parent is dead: on Linux the kernel does the same."""
    os._exit(1)


def _prepare(given: Inherited) -> None:
    die_with_parent(given.parent)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group; the parent asks to stop
    faulthandler.enable(given.words)
    if given.lock >= 0:
        DeathLock(given.lock).hold()


def _run(given: Inherited, shard: int, tripwire_port: int) -> int:
    connection = Connection(given.channel)
    settings = Settings.from_environment()
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    addresses = Addresses.of(settings, tripwire_port)
    stores = open_stores(StoreSettings.from_environment(), settings.namespace)
    connection.wait_for_start()
    if connection.inbox.is_asked_to_stop:
        return 0
    shared = Shared(settings, topics, application, addresses, stores)
    guard = ApplyGuard(mark_in(given.words), connection.fatal_offset)
    runner = ShardRunner(shared, shard, connection, guard)
    reduce_gc_frequency()
    is_clean = runner.run()
    connection.drain()
    return 0 if is_clean else 1


def main(arguments: Sequence[str]) -> int:
    """Run the engine; return the exit code.

    0: stopped as requested; 78: a configuration error, which a restart does not fix; otherwise 1.
    """
    given, (shard, tripwire_port) = inherited(arguments)
    _prepare(given)
    try:
        configure_logging()
        exit_when_a_thread_fails()
        return _run(given, int(shard), int(tripwire_port))
    except ConfigurationError as error:
        log.critical("configuration: %s", error)
        return EXIT_CONFIGURATION
    except Exception:
        os.write(given.words, traceback.format_exc().encode())
        log.critical("shard %s: the engine ends", shard, exc_info=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
