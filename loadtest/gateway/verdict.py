"""Whether a load test has passed. Without locust, which patches all that is imported later."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.gateway.options import Options

TURNED_AWAY = "turned away (Retry-After)"
"""The name under which answers are counted that only ask for patience."""


@dataclass(frozen=True)
class Figures:
    """Of a whole run. `requests`: all answers, also those that were `turned_away` or `errors`."""

    requests: int
    turned_away: int
    errors: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        """In one line."""
        return (
            f"{self.requests} requests, {self.requests_per_s:.0f}/s, p50 {self.p50_ms:.0f} ms, "
            f"p99 {self.p99_ms:.0f} ms, {self.turned_away} turned away, {self.errors} errors"
        )


def faults(found: Figures, options: Options) -> list[str]:
    """Each threshold that was missed, in words; empty: passed."""
    if not found.requests:
        return ["nothing was answered"]
    share = found.turned_away / found.requests
    checks = (
        (
            found.errors > options.max_errors,
            f"{found.errors} errors, at most {options.max_errors} are allowed",
        ),
        (
            share > options.max_turned_away,
            f"{share:.1%} turned away, at most {options.max_turned_away:.1%} are allowed",
        ),
        (
            found.p99_ms > options.max_p99_ms,
            f"p99 is {found.p99_ms:.0f} ms, at most {options.max_p99_ms:.0f} ms are allowed",
        ),
        (
            found.requests_per_s < options.min_requests_per_s,
            f"{found.requests_per_s:.0f} requests/s, at least "
            f"{options.min_requests_per_s:.0f} are wanted",
        ),
    )
    return [text for is_missed, text in checks if is_missed]
