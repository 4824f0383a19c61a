"""Runs the simulation against planted bugs, several at a time, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.simulation.planted.bugs import BUGS

MAX_SEEDS = 1_000
"""A bug that this many seeds do not find counts as not found."""

TIMEOUT_S = 600


@dataclass(frozen=True)
class HuntResult:
    """`seeds`: how many were run, None: not found; `by`: the invariant, or why it was not found."""

    name: str
    seeds: int | None
    by: str

    def __str__(self) -> str:
        return f"{'-' if self.seeds is None else self.seeds:>6}  {self.name}: {self.by}"


def hunt(names: Sequence[str], processes: int) -> Iterator[HuntResult]:
    """Yield the results in the order of the names."""
    with ThreadPoolExecutor(processes) as pool:
        yield from pool.map(_hunt_one, names)


def _hunt_one(name: str) -> HuntResult:
    command = [sys.executable, "-m", "tests.simulation.planted", name, "--seeds", str(MAX_SEEDS)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return HuntResult(name, None, f"not within {TIMEOUT_S} s")
    if done.returncode != 0:
        return HuntResult(name, None, done.stderr.strip().rsplit("\n", 1)[-1])
    result = json.loads(done.stdout)
    return HuntResult(name, result["seeds"], result["invariant"] or f"not in {MAX_SEEDS} seeds")


def report(names: Sequence[str], processes: int) -> int:
    """Print a table line by line; return 1 if a bug was not found or does not apply."""
    started, missed = time.monotonic(), list[HuntResult]()
    sys.stdout.write(" seeds  planted bug: what found it\n")
    for found in hunt(names or list(BUGS), processes):
        sys.stdout.write(f"{found}\n")
        sys.stdout.flush()
        if found.seeds is None:
            missed.append(found)
    total, took_s = len(names or BUGS), time.monotonic() - started
    sys.stdout.write(f"{total - len(missed)} of {total} planted bugs found in {took_s:.0f} s\n")
    return 1 if missed else 0
