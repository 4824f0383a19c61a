"""Thousands of seeds: POSTJOURNAL_SIM_SEEDS is their number, POSTJOURNAL_SIM_FIRST the first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.simulation.coverage import merged
from tests.simulation.runner import run_seed, run_seeds, summary

SEEDS = int(os.environ.get("POSTJOURNAL_SIM_SEEDS", "10000"))
FIRST = int(os.environ.get("POSTJOURNAL_SIM_FIRST", "0"))
ENOUGH_FOR_ALL = 2_000
"""With fewer seeds, some fault may not happen by chance."""


def test_all_invariants_hold_and_every_fault_happens(capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for report in run_seeds(range(FIRST, FIRST + SEEDS)):
        reports.append(report)
        assert report.invariant is None, report.failure()
    with capsys.disabled():
        print(f"\n{summary(reports)}")  # noqa: T201 - the table is part of the report
    if SEEDS >= ENOUGH_FOR_ALL:
        assert merged(report.coverage for report in reports).missing() == []


@pytest.mark.parametrize("seed", range(8))
def test_a_seed_runs_the_same_way_each_time(seed: int) -> None:
    first, second = run_seed(seed, traced=True), run_seed(seed, traced=True)
    assert first.trace_hash == second.trace_hash
    assert first.lines == second.lines
    assert len(first.lines or []) > 100


def test_a_trace_changes_nothing() -> None:
    traced, silent = run_seed(3, traced=True), run_seed(3)
    assert (traced.events, traced.coverage) == (silent.events, silent.coverage)


def test_no_signal_is_needed_to_end_the_workers(tmp_path: Path) -> None:
    """A SIGTERM while the test run's handler was installed hung the whole run now and then."""
    signalled = tmp_path / "signalled"

    def end(*_: object) -> None:
        signalled.touch()
        os._exit(1)

    before = signal.signal(signal.SIGTERM, end)
    try:
        reports = run_seeds(range(1_000))
        assert next(reports).seed == 0
        reports.close()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not signalled.exists()
