"""Clients of the gateway, which retry each command until they know that it was accepted."""

from __future__ import annotations

import threading
import time
import uuid

import msgspec
import requests

from loadtest.workload.audit import Auditor
from loadtest.workload.commands import CommandSpec, SentCommands, Workload
from loadtest.workload.watcher import Seen
from postjournal.cluster.http import direct_session

TIMEOUT_S = 8.0
WAIT_S = 2
RETRY_S = 0.5
JOIN_TIMEOUT_S = 20.0


class Answer(msgspec.Struct):
    """A result without its position; the same in the gateway's answer and in the topic."""

    id: str
    status: str
    reason: str | None
    balances: dict[str, int]


class GatewayCounts(msgspec.Struct):
    """`sent`: commands; `refused`: of these, refused as invalid; `results`: answered with the
    result; `retries`: requests that had to be repeated; `contradictions`: answers that differ
    from the results topic."""

    sent: int = 0
    refused: int = 0
    results: int = 0
    retries: int = 0
    contradictions: int = 0


class GatewayClients:
    """Some threads that send one command after the other over HTTP, on accounts of their own."""

    def __init__(self, url: str, seed: int, threads: int, rate: float, *, from_start: bool) -> None:
        """`rate`: commands per second, of all threads; `from_start`: see `Auditor`."""
        run = uuid.uuid4().hex[:8]
        self.workload, self.sent = Workload(run, seed), SentCommands(run)
        self.auditor = Auditor(self.sent, from_start=from_start)
        self.counts = GatewayCounts()
        self._url = f"{url}/api/v1/commands"
        self._interval_s = threads / rate
        self._opening = iter(self.workload.opening())
        self._answers: dict[int, Answer] = {}
        self._seen: dict[int, Answer] = {}
        self._decode = msgspec.json.Decoder(Answer).decode
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, daemon=True, name=f"client-{number}")
            for number in range(threads)
        ]

    def start(self) -> None:
        """Open the accounts, then send commands of all types."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no new command; those without an answer after 10 s count as unacknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)

    def add(self, seen: Seen) -> None:
        """Audit a record of the results topic."""
        position = self.auditor.add(seen.partition, seen.value)
        if position is not None:
            self._seen[position] = self._decode(seen.value)

    def compare(self) -> None:
        """Count the answers that differ from the results topic, once all results were added."""
        self.counts.contradictions = sum(
            self._seen.get(position) != answer for position, answer in self._answers.items()
        )

    def _run(self) -> None:
        with direct_session() as session:
            while not self._stop.is_set():
                started_s = time.monotonic()
                with self._lock:
                    spec = next(self._opening, None) or self.workload.next()
                    position, value = self.sent.add(spec)
                    self.counts.sent += 1
                self._submit(session, position, value, spec)
                self._stop.wait(self._interval_s - (time.monotonic() - started_s))

    def _submit(
        self, session: requests.Session, position: int, value: bytes, spec: CommandSpec
    ) -> None:
        """Retry until the outcome is known; every other command waits for its result."""
        headers = {"Content-Type": "application/json"}
        if position % 2:
            headers["Prefer"] = f"wait={WAIT_S}"
        deadline_s = float("inf")
        while time.monotonic() < deadline_s:
            if self._is_known(session, position, value, spec, headers):
                return
            self.counts.retries += 1
            if self._stop.is_set():
                deadline_s = min(deadline_s, time.monotonic() + JOIN_TIMEOUT_S / 2)
            time.sleep(RETRY_S)
        self.sent.mark_unacknowledged(position)

    def _is_known(
        self,
        session: requests.Session,
        position: int,
        value: bytes,
        spec: CommandSpec,
        headers: dict[str, str],
    ) -> bool:
        try:
            answer = session.post(
                self._url,
                data=value,
                headers=headers,
                params={"ledger": spec.ledger},
                timeout=TIMEOUT_S,
            )
        except requests.RequestException:  # killed, or starting
            return False
        if answer.status_code == 422:
            self.counts.refused += 1
            self.sent.mark_unacknowledged(position)
        elif answer.status_code == 200:
            self.counts.results += 1
            self._answers[position] = self._decode(answer.content)
        return answer.status_code in (200, 202, 422)
