"""Whether a load test of the gateway has passed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.gateway.options import Options
from loadtest.gateway.verdict import Figures, missed_thresholds

GOOD = Figures(requests=1_000, turned_away=0, errors=0, requests_per_s=100, p50_ms=5, p99_ms=20)


def options(**variables: str) -> Options:
    return Options.from_environment(variables)


def test_a_run_within_all_thresholds_has_passed() -> None:
    assert missed_thresholds(GOOD, options()) == []


def test_a_run_without_answers_has_not_passed() -> None:
    assert missed_thresholds(replace(GOOD, requests=0), options()) == ["no request was answered"]


def test_one_error_fails_the_run_unless_it_is_allowed() -> None:
    one = replace(GOOD, errors=1)
    assert missed_thresholds(one, options()) == ["1 errors, at most 0 are allowed"]
    assert missed_thresholds(one, options(LOAD_MAX_ERRORS="1")) == []


def test_answers_with_retry_after_are_not_errors_but_have_a_threshold_of_their_own() -> None:
    assert missed_thresholds(replace(GOOD, turned_away=50), options()) == []
    assert missed_thresholds(replace(GOOD, turned_away=200), options()) == [
        "20.0% turned away, at most 5.0% are allowed"
    ]


def test_slow_answers_fail_the_run() -> None:
    slow = replace(GOOD, p99_ms=400)
    assert missed_thresholds(slow, options()) == ["p99 is 400 ms, at most 250 ms are allowed"]
    assert missed_thresholds(slow, options(LOAD_MAX_P99_MS="500")) == []


def test_too_few_requests_fail_the_run() -> None:
    required = options(LOAD_MIN_REQUESTS_PER_S="101")
    assert missed_thresholds(GOOD, required) == ["100 requests/s, at least 101 are required"]


def test_the_figures_distinguish_errors_from_answers_with_retry_after() -> None:
    assert "20 turned away, 3 errors" in str(replace(GOOD, turned_away=20, errors=3))


@pytest.mark.parametrize("value", ["-1", "many"])
def test_an_invalid_option_is_named(value: str) -> None:
    with pytest.raises(ValueError, match="LOAD_RATE"):
        options(LOAD_RATE=value)
