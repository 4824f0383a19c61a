"""The main process of a replica: it starts and watches the others, and announces deaths to peers.

It has no application, no Kafka client and no HTTP client, so that nothing of theirs can delay or
end it. When it dies, the kernel ends the others (`die_with_parent`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time

from postjournal.adapters.process.thread_priority import ThreadPriority
from postjournal.adapters.process.tripwire import Row, TripwireServer, TripwireWatcher
from postjournal.config.settings import Settings
from postjournal.core.state.apply_guard import NONE
from services.process import EXIT_CONFIGURATION
from services.replica import messages as m
from services.replica.child import End
from services.replica.supervised import Supervised

log = logging.getLogger("replica")

TICK_S = 1.0
PAUSED_S = 3.0
"""Between two ticks; then this process was stopped, and the others with it."""

LIVE_WITHIN_S = 5.0
"""An engine whose loop has not turned for this long is not live (`/livez`)."""

FATAL_DEATHS = 3
"""After so many deaths of an engine while it applied one record, it does not apply it again."""

STOP_S = 6.0
"""The time for all shards together to resign and stop."""


class Engine:
    """The engine of one shard; the `Owner` of its process."""

    def __init__(self, shard: int, tripwire_port: int, parent: Parent) -> None:
        command = ("services.replica.engine", str(shard), str(tripwire_port))
        self.shard, self._parent = shard, parent
        self.process = Supervised(f"shard {shard}", command, m.FromEngine, self)
        self._applying = NONE  # when it died last in doing so
        self._deaths = 0  # at that record, in a row

    def on_started(self) -> None:
        if self._parent.may_run:
            self.run()
        self._parent.link(self)

    def run(self) -> None:
        """Start the loop: the topics exist."""
        fatal_offset = self._applying if self._deaths >= FATAL_DEATHS else NONE
        self.process.send(m.Start(self.process.last_end, fatal_offset))

    def on_message(self, message: m.FromEngine) -> None:
        parent = self._parent
        if isinstance(message, m.Report):
            self.process.reported()
            parent.http.process.send(message)
        elif isinstance(message, m.Begun):
            self.process.await_death()
            parent.server.begin(self.shard, message.incarnation)
            self.process.send(m.Known(message.incarnation))
        elif isinstance(message, m.Watch):
            row = Row(self.shard, message.incarnation, message.epoch)
            parent.watcher.watch(message.address, row)
        else:
            parent.watcher.unwatch(self.shard)

    def on_dead(self) -> None:
        self._parent.server.end(self.shard)
        self._parent.watcher.unwatch(self.shard)

    def on_ended(self, end: End) -> None:
        if end.applying != NONE:
            self._deaths = self._deaths + 1 if end.applying == self._applying else 1
            self._applying = end.applying
        self._parent.on_ended(end)

    @property
    def state(self) -> m.EngineState:
        """For the HTTP process."""
        process = self.process
        ill = None
        if process.pid is None:
            ill = f"its engine has ended and is being restarted: {process.last_end}"
        elif process.silent_s > LIVE_WITHIN_S and self._parent.may_run:
            ill = f"its loop has not turned for {process.silent_s:.0f} s"
        return m.EngineState(self.shard, process.pid, ill, dict(process.ends), process.last_end)


class Http:
    """The process for HTTP, status records and topics; its `Owner`."""

    def __init__(self, listener: socket.socket, tripwire_port: int, parent: Parent) -> None:
        command = ("services.replica.http_process", str(listener.fileno()), str(tripwire_port))
        self._parent = parent
        self.process = Supervised(
            "HTTP process", command, m.FromHttp, self, keep=(listener.fileno(),)
        )

    def on_started(self) -> None:
        self._parent.show_engines()
        self._parent.link_all()

    def on_message(self, message: m.FromHttp) -> None:
        self.process.reported()
        if isinstance(message, m.Crash):
            os.kill(os.getpid(), signal.SIGKILL)
        elif isinstance(message, m.Ready):
            self._parent.run_engines()

    def on_dead(self) -> None:
        """No peer depends on it."""

    def on_ended(self, end: End) -> None:
        self._parent.on_ended(end)


class Parent:
    """The processes of one replica.

    `may_run`: whether the topics exist; `server`, `watcher`: the two sides of the tripwire.
    """

    def __init__(self, settings: Settings, http: socket.socket, tripwire: socket.socket) -> None:
        """`http`, `tripwire`: sockets that listen. To be made within the event loop."""
        self._listener, port = tripwire, tripwire.getsockname()[1]
        self.may_run = False
        self.server = TripwireServer()
        self.watcher = TripwireWatcher(self._on_fired)
        self.engines = [Engine(shard, port, self) for shard in range(settings.shards)]
        self.http = Http(http, port, self)
        self._exit_code: int | None = None
        self._ended = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code.

        0: all shards stopped cleanly; 78: a configuration error; otherwise 1.
        """
        ThreadPriority().switch(on=True)  # it has little to do, and peers wait for it
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        await self.server.start(self._listener)
        self.http.process.start()
        for engine in self.engines:
            engine.process.start()
        ticking = asyncio.create_task(self._tick())
        await self._ended.wait()
        ticking.cancel()
        return self._exit_code or 0

    @property
    def _processes(self) -> list[Supervised]:
        return [self.http.process, *(engine.process for engine in self.engines)]

    async def _tick(self) -> None:
        last_s = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            last_s, elapsed_s = time.monotonic(), time.monotonic() - last_s
            for process in self._processes:
                if elapsed_s > PAUSED_S:
                    process.forgive()
                process.end_if_stuck()
            self.show_engines()

    def _on_fired(self, row: Row) -> None:
        self.engines[row.shard].process.send(m.Fired(row.epoch))

    # --- the processes ----------------------------------------------------------------------

    def run_engines(self) -> None:
        """Start all engines: the topics exist."""
        if not self.may_run:
            self.may_run = True
            for engine in self.engines:
                engine.run()

    def show_engines(self) -> None:
        """Send the state of all engines to the HTTP process."""
        states = [engine.state for engine in self.engines]
        self.http.process.send(m.Engines(os.getpid(), states))

    def link_all(self) -> None:
        """Connect the HTTP process, which has just been started, with all engines."""
        for engine in self.engines:
            self.link(engine)

    def link(self, engine: Engine) -> None:
        """Connect an engine and the HTTP process, when both run."""
        if engine.process.pid is not None and self.http.process.pid is not None:
            ours, theirs = socket.socketpair()
            self.http.process.send(m.Link(engine.shard), ours.detach())
            engine.process.send(m.Link(engine.shard), theirs.detach())

    def _reap(self) -> None:
        for process in self._processes:
            process.reap()

    def on_ended(self, end: End) -> None:
        """One of the processes has ended."""
        if end.code == EXIT_CONFIGURATION:
            self._exit_code = EXIT_CONFIGURATION
        if self._is_stopping:
            self._exit_code = self._exit_code or min(abs(end.code), 1)
            self._go_on_stopping()
        elif end.code == EXIT_CONFIGURATION:
            self._stop()
        self.show_engines()

    # --- stopping ---------------------------------------------------------------------------

    @property
    def _is_stopping(self) -> bool:
        return self.http.process.is_stopping

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._is_stopping:
            log.info("%s: stopping %d shard(s)", number.name, len(self.engines))
            self._stop()

    def _stop(self) -> None:
        """All shards resign and stop; the HTTP process is last, since it publishes their status."""
        for process in self._processes:
            process.is_stopping = True
        for engine in self.engines:
            engine.process.send(m.Stop())
        asyncio.get_running_loop().call_later(STOP_S, self._kill_all)
        self._go_on_stopping()

    def _go_on_stopping(self) -> None:
        if any(engine.process.pid is not None for engine in self.engines):
            return
        if self.http.process.pid is None:
            self._ended.set()
        else:
            self.http.process.send(m.Stop())

    def _kill_all(self) -> None:
        for process in self._processes:
            process.kill()
