"""Submitting commands: appending them to the log, and waiting for results on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any, NoReturn

from postjournal.cluster.topics import shard_of
from services.producer.parsing import Submission
from services.producer.ports import (
    Appended,
    CommandLog,
    Expectation,
    Headers,
    NotAppended,
    Outcome,
    Record,
    ResultWaiter,
    TooBusy,
    Unavailable,
    Unknown,
)
from services.producer.problems import Problem

BUSY_RETRY_S, UNAVAILABLE_RETRY_S = 1, 2
"""The Retry-After header: too many requests in progress; Kafka or the replicas unavailable."""

REPEAT = (
    "Repeat the request with the same id (the Idempotency-Key header): it takes effect once, "
    "however often it arrives."
)


@dataclass(frozen=True)
class Accepted:
    """A command that is in the log.

    `result`: the record of the results topic; None if it was not waited for or not in time.
    """

    id: str
    shard: int
    offset: int
    result: bytes | None = None

    def to_dict(self) -> dict[str, Any]:
        """The body of the response that accepts it."""
        return {"id": self.id, "shard": self.shard, "offset": self.offset}


class Submitter:
    """Submits commands; a command that is not certainly accepted raises a `Problem`."""

    def __init__(
        self,
        commands: CommandLog,
        results: ResultWaiter,
        shards: int,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        """`shards`: partitions of the topics; `now_s`: a clock for waiting, seconds."""
        self._commands, self._results, self._shards = commands, results, shards
        self._now_s = now_s

    def submit(self, command: Submission, wait_s: int, headers: Headers = ()) -> Accepted:
        """Append one command and, unless `wait_s` is 0, wait for its result.

        `wait_s`: how long after this call the result may come; the time until Kafka's
        acknowledgement counts. Results are followed from before the command is sent. `headers`:
        of its record. Raises `Problem`: too-busy, unavailable or outcome-unknown.
        """
        deadline_s = self._now_s() + wait_s
        record = self._record(command)
        try:
            with self._expectation(record.shard, command.id, wait_s) as expected:
                outcome = self._commands.append([record], headers)[0]
                accepted = _accepted(command.id, record.shard, outcome)
                if expected is None:
                    return accepted
                result = expected.wait(max(deadline_s - self._now_s(), 0))
                return Accepted(accepted.id, record.shard, accepted.offset, result)
        except (TooBusy, Unavailable) as refusal:
            _refuse(refusal, id=command.id)

    def submit_all(self, batch: Sequence[Submission], headers: Headers = ()) -> list[Accepted]:
        """Append a batch; the result has the order of `batch`.

        Raises `Problem` unless all are accepted. If a part is, or may be, the problem has the
        outcome of each command.
        """
        records = [self._record(command) for command in batch]
        try:
            outcomes = self._commands.append(records, headers)
        except (TooBusy, Unavailable) as refusal:
            _refuse(refusal)
        if not all(isinstance(outcome, Appended) for outcome in outcomes):
            raise _partial(batch, records, outcomes)
        return [
            _accepted(command.id, record.shard, outcome)
            for command, record, outcome in zip(batch, records, outcomes, strict=True)
        ]

    def _record(self, command: Submission) -> Record:
        return Record(command.key, shard_of(command.key, self._shards), command.value)

    def _expectation(self, shard: int, command_id: str, wait_s: int) -> Any:
        """A context manager; its value is an `Expectation`, or None without a wait."""
        if wait_s and self._results.is_offered:
            return self._results.expect(shard, command_id)
        return nullcontext[Expectation | None](None)


def _accepted(command_id: str, shard: int, outcome: Outcome) -> Accepted:
    if isinstance(outcome, Appended):
        return Accepted(command_id, shard, outcome.offset)
    if isinstance(outcome, Unknown):
        raise Problem(
            "outcome-unknown",
            f"{outcome.reason}. {REPEAT}",
            retry_after_s=UNAVAILABLE_RETRY_S,
            outcome="unknown",
            id=command_id,
        )
    raise Problem(
        "unavailable",
        outcome.reason,
        retry_after_s=UNAVAILABLE_RETRY_S,
        outcome="not_accepted",
        id=command_id,
    )


def _refuse(refusal: TooBusy | Unavailable, **extras: Any) -> NoReturn:
    is_busy = isinstance(refusal, TooBusy)
    raise Problem(
        "too-busy" if is_busy else "unavailable",
        str(refusal),
        retry_after_s=BUSY_RETRY_S if is_busy else UNAVAILABLE_RETRY_S,
        outcome="not_accepted",
        **extras,
    ) from refusal


def _partial(
    batch: Sequence[Submission], records: Sequence[Record], outcomes: Sequence[Outcome]
) -> Problem:
    details = [
        _outcome(index, *item)
        for index, item in enumerate(zip(batch, records, outcomes, strict=True))
    ]
    accepted = sum(isinstance(outcome, Appended) for outcome in outcomes)
    # A client that repeats a batch with new ids, because it was reported as not accepted, doubles
    # what was accepted of it.
    is_refused = all(isinstance(outcome, NotAppended) for outcome in outcomes)
    return Problem(
        "unavailable" if is_refused else "outcome-unknown",
        f"{accepted} of {len(batch)} commands were accepted; see `commands`. {REPEAT}",
        retry_after_s=UNAVAILABLE_RETRY_S,
        outcome="not_accepted" if is_refused else "unknown",
        accepted=accepted,
        commands=details,
    )


def _outcome(index: int, command: Submission, record: Record, outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {"index": index, "id": command.id}
    if isinstance(outcome, Appended):
        return fields | {"outcome": "accepted", "shard": record.shard, "offset": outcome.offset}
    name = "unknown" if isinstance(outcome, Unknown) else "not_accepted"
    return fields | {"outcome": name, "detail": outcome.reason}
