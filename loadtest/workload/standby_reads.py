"""Reads from standbys under load, each of a state that was just seen in the results topic."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect_right

import msgspec

from loadtest.system import BenchSystem
from loadtest.workload.query_connection import CONNECTION_ERRORS, BalanceAnswer, QueryConnection
from loadtest.workload.watcher import Watcher

TIMEOUT_S = 5.0


class _Result(msgspec.Struct):
    seq: int
    balances: dict[str, int] = {}


class BalanceHistory:
    """Every balance in the results, and its sequence.

    `seq`: of the last result; `changed`: the accounts of the last result that changed any.
    """

    def __init__(self) -> None:
        self.seq = -1
        self.changed: list[str] = []
        self._history: dict[str, tuple[list[int], list[int]]] = {}  # account → seqs, balances
        self._decode = msgspec.json.Decoder(_Result).decode

    def add(self, value: bytes) -> None:
        """Add the next result; one that was published twice is ignored."""
        result = self._decode(value)
        if result.seq <= self.seq:
            return
        self.seq = result.seq
        if result.balances:
            self.changed = list(result.balances)
        for account, balance in result.balances.items():
            seqs, balances = self._history.setdefault(account, ([], []))
            seqs.append(result.seq)
            balances.append(balance)

    def agrees_with(self, answer: BalanceAnswer) -> bool:
        """Whether the answer has its account's balance as of its sequence."""
        seqs, balances = self._history[answer.account]
        index = bisect_right(seqs, answer.seq)
        return index > 0 and answer.balance == balances[index - 1]


class ResultsObserver:
    """Follows the results of shard 0 as another service does; safe to use from many threads."""

    def __init__(self, system: BenchSystem) -> None:
        self._watcher = Watcher(system.kafka, [system.results_topic], 1)
        self._lock = threading.Lock()
        self.history = BalanceHistory()

    def latest(self) -> tuple[int, str] | None:
        """The last sequence that was seen, and an account that changed shortly before."""
        history = self.history
        with self._lock:
            for seen in self._watcher.take():
                history.add(seen.value)
            if not history.changed:
                return None
            return history.seq, random.choice(history.changed)

    def close(self) -> None:
        """Process what has been seen, and stop."""
        self.latest()
        self._watcher.close()


class StandbyReader(threading.Thread):
    """One connection to one standby, which sends the next query when it has an answer.

    `failure`: why it ended early, or None.
    """

    def __init__(self, address: str, observer: ResultsObserver, count: int) -> None:
        """`address`: host:port of the standby's HTTP server; `count`: how many queries to send."""
        super().__init__(daemon=True, name="standby reader")
        self._connection = QueryConnection(address, 0, TIMEOUT_S)
        self._observer, self._count = observer, count
        self.answers: list[BalanceAnswer] = []
        self.failure: str | None = None

    def run(self) -> None:
        """Send `count` queries; end early if the standby does not answer."""
        try:
            while len(self.answers) < self._count:
                known = self._observer.latest()
                if known is None:
                    time.sleep(0.001)
                else:
                    min_seq, account = known
                    self.answers.append(self._connection.balance(account, min_seq))
        except CONNECTION_ERRORS as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._connection.close()
