"""The environment variables that set what the load consists of, and its thresholds.

| variable | default | what |
|---|---|---|
| LOAD_SINGLE | 50 | weight of users that send one command and do not wait for its result |
| LOAD_WAITING | 30 | weight of users that wait for the result |
| LOAD_READS | 19 | weight of users that read balances |
| LOAD_BATCH | 1 | weight of users that send batches |
| LOAD_RATE | 10 | requests per second of each user; batch users send a tenth |
| LOAD_BATCH_SIZE | 100 | commands in a batch |
| LOAD_ACCOUNTS | 100 | accounts of each locust process |
| LOAD_MAX_P99_MS | 250 | threshold: 99 % of all answers take at most this long |
| LOAD_MAX_ERRORS | 0 | threshold: number of errors at most |
| LOAD_MAX_TURNED_AWAY | 0.05 | threshold: share of answers 503 and 429 with Retry-After, at most |
| LOAD_MIN_REQUESTS_PER_S | 0 | threshold: answers per second at least |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The variables' values, without `LOAD_`; see the table above."""

    single: int
    waiting: int
    reads: int
    batch: int
    rate: float
    batch_size: int
    accounts: int
    max_p99_ms: float
    max_errors: int
    max_turned_away: float
    min_requests_per_s: float

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Options:
        """Read all variables. Raises `ValueError` naming one that is not a number from 0."""

        def number(name: str, default: float) -> float:
            text = environment.get(name) or str(default)
            try:
                value = float(text)
            except ValueError:
                value = -1
            if value < 0:
                raise ValueError(f"{name}={text!r}: must be a number, 0 or more")
            return value

        return cls(
            single=int(number("LOAD_SINGLE", 50)),
            waiting=int(number("LOAD_WAITING", 30)),
            reads=int(number("LOAD_READS", 19)),
            batch=int(number("LOAD_BATCH", 1)),
            rate=number("LOAD_RATE", 10),
            batch_size=int(number("LOAD_BATCH_SIZE", 100)),
            accounts=max(int(number("LOAD_ACCOUNTS", 100)), 2),
            max_p99_ms=number("LOAD_MAX_P99_MS", 250),
            max_errors=int(number("LOAD_MAX_ERRORS", 0)),
            max_turned_away=number("LOAD_MAX_TURNED_AWAY", 0.05),
            min_requests_per_s=number("LOAD_MIN_REQUESTS_PER_S", 0),
        )
