"""When a load test has passed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.gateway.options import Options
from loadtest.gateway.verdict import Figures, faults

GOOD = Figures(requests=1_000, turned_away=0, errors=0, requests_per_s=100, p50_ms=5, p99_ms=20)


def options(**variables: str) -> Options:
    return Options.from_environment(variables)


def test_a_run_within_all_thresholds_has_passed() -> None:
    assert faults(GOOD, options()) == []


def test_nothing_answered_is_no_success() -> None:
    assert faults(replace(GOOD, requests=0), options()) == ["nothing was answered"]


def test_one_error_is_one_too_many_unless_it_is_allowed() -> None:
    one = replace(GOOD, errors=1)
    assert faults(one, options()) == ["1 errors, at most 0 are allowed"]
    assert faults(one, options(LOAD_MAX_ERRORS="1")) == []


def test_answers_that_ask_for_patience_are_no_errors_but_have_a_bound_of_their_own() -> None:
    assert faults(replace(GOOD, turned_away=50), options()) == []
    assert faults(replace(GOOD, turned_away=200), options()) == [
        "20.0% turned away, at most 5.0% are allowed"
    ]


def test_slow_answers_fail_the_run() -> None:
    slow = replace(GOOD, p99_ms=400)
    assert faults(slow, options()) == ["p99 is 400 ms, at most 250 ms are allowed"]
    assert faults(slow, options(LOAD_MAX_P99_MS="500")) == []


def test_too_few_requests_fail_the_run() -> None:
    wanted = options(LOAD_MIN_REQUESTS_PER_S="101")
    assert faults(GOOD, wanted) == ["100 requests/s, at least 101 are wanted"]


def test_the_figures_tell_errors_and_patience_apart() -> None:
    assert "20 turned away, 3 errors" in str(replace(GOOD, turned_away=20, errors=3))


@pytest.mark.parametrize("value", ["-1", "many"])
def test_a_wrong_option_is_named(value: str) -> None:
    with pytest.raises(ValueError, match="LOAD_RATE"):
        options(LOAD_RATE=value)
