"""Reads from standbys while they follow, each of a state that somebody has just seen."""

from __future__ import annotations

import http.client
import random
import threading
import time
from bisect import bisect_right
from urllib.parse import quote

import msgspec

from loadtest.bench_system import Stage
from loadtest.workload.watcher import Watcher

TIMEOUT_S = 5.0


class _Result(msgspec.Struct):
    seq: int
    balances: dict[str, int] = {}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a standby said; `seq` -1 and `balance` None when it refused, as `error` tells."""

    took_ns: int
    account: str
    min_seq: int
    seq: int
    balance: int | None
    error: str | None


class _Body(msgspec.Struct):
    result: dict[str, int | str] | None = None
    seq: int = -1
    error: str | None = None


class History:
    """Every balance that the results told, and since when."""

    def __init__(self) -> None:
        """Nothing is known."""
        self.seq = -1
        self.changed: list[str] = []  # the accounts of the last result that changed any
        self._told: dict[str, tuple[list[int], list[int]]] = {}  # account → seqs, balances
        self._decode = msgspec.json.Decoder(_Result).decode

    def take(self, value: bytes) -> None:
        """The next result; one that was published twice is known already."""
        result = self._decode(value)
        if result.seq <= self.seq:
            return
        self.seq = result.seq
        if result.balances:
            self.changed = list(result.balances)
        for account, balance in result.balances.items():
            seqs, balances = self._told.setdefault(account, ([], []))
            seqs.append(result.seq)
            balances.append(balance)

    def is_right(self, answer: Answer) -> bool:
        """Whether the results say the same as the answer, of its account at its sequence."""
        seqs, balances = self._told[answer.account]
        at = bisect_right(seqs, answer.seq)
        return at > 0 and answer.balance == balances[at - 1]


class Witness:
    """Sees the results as another service would; any thread may ask what it saw last."""

    def __init__(self, stage: Stage) -> None:
        """From now on; of shard 0."""
        self._watcher = Watcher(stage.kafka, [stage.topics.sink_topics["results"]], 1)
        self._lock = threading.Lock()
        self.history = History()

    def latest(self) -> tuple[int, str] | None:
        """The last sequence that was seen, and an account that changed shortly before."""
        history = self.history
        with self._lock:
            for seen in self._watcher.take():
                history.take(seen.value)
            if not history.changed:
                return None
            return history.seq, random.choice(history.changed)

    def close(self) -> None:
        """See no more."""
        self._watcher.close()


class Asker(threading.Thread):
    """One connection to one standby: asks, waits for the answer, asks again."""

    def __init__(self, address: str, witness: Witness, count: int) -> None:
        """`address`: host:port of the standby's HTTP; `count`: how often to ask."""
        super().__init__(daemon=True, name="asker")
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        self._witness, self._count = witness, count
        self._decode = msgspec.json.Decoder(_Body).decode
        self.answers: list[Answer] = []
        self.fault: str | None = None

    def run(self) -> None:
        """Until it has asked so often, or the standby does not answer any more."""
        try:
            while len(self.answers) < self._count:
                known = self._witness.latest()
                if known is None:
                    time.sleep(0.001)
                else:
                    self.answers.append(self._ask(*known))
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self._connection.close()

    def _ask(self, min_seq: int, account: str) -> Answer:
        path = f"/query/0?account={quote(account)}&consistency=any&min_seq={min_seq}"
        asked_ns = time.monotonic_ns()
        self._connection.request("GET", path)
        data = self._connection.getresponse().read()
        took_ns = time.monotonic_ns() - asked_ns
        body = self._decode(data)
        balance = (body.result or {}).get("balance")
        known = balance if isinstance(balance, int) else None
        return Answer(took_ns, account, min_seq, body.seq, known, body.error)
