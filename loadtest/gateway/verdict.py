"""Whether a load test has passed. Must not import locust, which patches the standard library."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.gateway.options import Options

TURNED_AWAY = "turned away (Retry-After)"
"""The name under which answers that ask for a retry are counted."""


@dataclass(frozen=True)
class Figures:
    """Of a whole run. `requests`: all answers, including those `turned_away` and `errors`."""

    requests: int
    turned_away: int
    errors: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.requests_per_s:.0f}/s, p50 {self.p50_ms:.0f} ms, "
            f"p99 {self.p99_ms:.0f} ms, {self.turned_away} turned away, {self.errors} errors"
        )


def missed_thresholds(figures: Figures, options: Options) -> list[str]:
    """A description of each threshold that was missed; empty if the load test has passed."""
    if not figures.requests:
        return ["no request was answered"]
    share = figures.turned_away / figures.requests
    checks = (
        (
            figures.errors > options.max_errors,
            f"{figures.errors} errors, at most {options.max_errors} are allowed",
        ),
        (
            share > options.max_turned_away,
            f"{share:.1%} turned away, at most {options.max_turned_away:.1%} are allowed",
        ),
        (
            figures.p99_ms > options.max_p99_ms,
            f"p99 is {figures.p99_ms:.0f} ms, at most {options.max_p99_ms:.0f} ms are allowed",
        ),
        (
            figures.requests_per_s < options.min_requests_per_s,
            f"{figures.requests_per_s:.0f} requests/s, at least "
            f"{options.min_requests_per_s:.0f} are required",
        ),
    )
    return [text for is_missed, text in checks if is_missed]
