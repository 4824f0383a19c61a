"""Clients of the gateway, which repeat a command until they know that it was taken."""

from __future__ import annotations

import threading
import time
import uuid

import msgspec
import requests

from loadtest.workload.audit import Auditor
from loadtest.workload.commands import Book, Mix, Order
from loadtest.workload.watcher import Seen
from postjournal.cluster.http import direct_session

ANSWER_S = 8.0
WAIT_S = 2
RETRY_MOST_S = 0.5
JOIN_S = 20.0


class Answer(msgspec.Struct):
    """What a result says, apart from its place; the same in a gateway's answer and in the topic."""

    id: str
    status: str
    reason: str | None
    balances: dict[str, int]


class GatewayCounts(msgspec.Struct):
    """`sent`: commands; `refused`: of these, refused as invalid; `results`: answered with the
    result; `retries`: requests that had to be repeated; `contradictions`: answers that are not
    what the results topic says."""

    sent: int = 0
    refused: int = 0
    results: int = 0
    retries: int = 0
    contradictions: int = 0


class GatewayClients:
    """Some threads that send one command after the other over HTTP, on accounts of their own."""

    def __init__(self, url: str, seed: int, threads: int, rate: float, *, at_zero: bool) -> None:
        """`rate`: commands per second, of all threads; `at_zero`: see `Auditor`."""
        run = uuid.uuid4().hex[:8]
        self.mix, self.book = Mix(run, seed), Book(run)
        self.auditor = Auditor(self.book, from_start=at_zero)
        self.counts = GatewayCounts()
        self._url = f"{url}/api/v1/commands"
        self._every_s = threads / rate
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
        """Open the accounts, one after the other, then go on with everything else."""
        self._opening = iter(self.mix.opening())
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send nothing new; what is unanswered after a while counts as unacknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join(JOIN_S)

    def take(self, seen: Seen) -> None:
        """A record of the results topic."""
        position = self.auditor.take(seen.partition, seen.value)
        if position is not None:
            self._seen[position] = self._decode(seen.value)

    def compare(self) -> None:
        """When everything is seen: did the gateway answer what the topic says?"""
        wrong = [p for p, answer in self._answers.items() if self._seen.get(p) != answer]
        self.counts.contradictions = len(wrong)

    def _run(self) -> None:
        with direct_session() as session:
            while not self._stop.is_set():
                begun_s = time.monotonic()
                with self._lock:
                    order = next(self._opening, None) or self.mix.next()
                    position, value = self.book.add(order)
                    self.counts.sent += 1
                self._submit(session, position, value, order)
                self._stop.wait(self._every_s - (time.monotonic() - begun_s))

    def _submit(self, session: requests.Session, position: int, value: bytes, order: Order) -> None:
        """Until it is known; every other command waits for its result."""
        headers = {"Content-Type": "application/json"}
        if position % 2:
            headers["Prefer"] = f"wait={WAIT_S}"
        give_up_s = float("inf")
        while time.monotonic() < give_up_s:
            if self._is_known(session, position, value, order, headers):
                return
            self.counts.retries += 1
            if self._stop.is_set():
                give_up_s = min(give_up_s, time.monotonic() + JOIN_S / 2)
            time.sleep(RETRY_MOST_S)
        self.book.fail(position)

    def _is_known(
        self,
        session: requests.Session,
        position: int,
        value: bytes,
        order: Order,
        headers: dict[str, str],
    ) -> bool:
        try:
            answer = session.post(
                self._url,
                data=value,
                headers=headers,
                params={"ledger": order.ledger},
                timeout=ANSWER_S,
            )
        except requests.RequestException:  # killed, or on its way up
            return False
        if answer.status_code == 422:
            self.counts.refused += 1
            self.book.fail(position)
        elif answer.status_code == 200:
            self.counts.results += 1
            self._answers[position] = self._decode(answer.content)
        return answer.status_code in (200, 202, 422)
