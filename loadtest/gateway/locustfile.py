"""Load on the gateway: single, waiting and batch users, and readers.

    locust -f loadtest/gateway/locustfile.py --host http://localhost:8080 \
        --headless --users 50 --run-time 60s --html report.html

Weights, rates and thresholds are environment variables: see `loadtest/gateway/options.py`. A
headless run ends with exit code 1 when a threshold was missed. An answer of 503 or 429 with
Retry-After is not an error: it is counted apart, and the command is sent again with its id, as
clients should do.
"""

from __future__ import annotations

import logging
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # locust imports this file by its path

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import RequestStats

from loadtest.gateway.options import Options
from loadtest.gateway.verdict import TURNED_AWAY, Figures, faults

OPTIONS = Options.from_environment()
RUN = uuid.uuid4().hex[:8]
ACCOUNTS = [f"load-{RUN}-{n}" for n in range(OPTIONS.accounts)]
OPENING_BALANCE = 1_000_000
ATTEMPTS = 20
COMMANDS, BATCH = "/api/v1/commands", "/api/v1/commands/batch"

log = logging.getLogger(__name__)


class Client(FastHttpUser):
    """Sends a request until it is answered with something else than "try again later"."""

    abstract = True
    wait_time = constant_throughput(OPTIONS.rate)

    def send(self, method: str, path: str, name: str, wanted: tuple[int, ...], **how: Any) -> None:
        """`wanted`: the status codes that are no error."""
        for left in reversed(range(ATTEMPTS)):
            with self.client.request(
                method, path, name=name, catch_response=True, **how
            ) as response:
                later = _asked_to_wait_s(response)
                if later is not None and left:
                    response.request_meta["name"] = TURNED_AWAY
                    response.success()
                elif response.status_code in wanted:
                    response.success()
                else:
                    response.failure(f"{response.status_code}: {(response.text or '')[:200]}")
            if later is None:
                return
            time.sleep(later)

    def command(self) -> dict[str, Any]:
        """One that is accepted, unless the account has run out of money."""
        one, other = random.sample(ACCOUNTS, 2)
        amount, identity = random.randint(1, 100), uuid.uuid4().hex
        if random.random() < 0.7:
            return {
                "type": "transfer",
                "id": identity,
                "from": one,
                "to": other,
                "amount": amount,
            }
        kind = random.choice(("deposit", "withdraw"))
        return {"type": kind, "id": identity, "account": one, "amount": amount}


def _asked_to_wait_s(response: Any) -> float | None:
    """What "try again later" asks for; None: it is another answer."""
    if response.status_code not in (429, 503) or "Retry-After" not in response.headers:
        return None
    return float(response.headers["Retry-After"])


class SingleUser(Client):
    """Sends a command; is content when Kafka holds it."""

    weight = OPTIONS.single

    @task
    def submit(self) -> None:
        """One command."""
        self.send("POST", COMMANDS, "command", (202,), json=self.command())


class WaitingUser(Client):
    """Sends a command and waits for its result."""

    weight = OPTIONS.waiting

    @task
    def submit(self) -> None:
        """One command; 202: its result did not come in time."""
        headers = {"Prefer": "wait=5"}
        self.send(
            "POST", COMMANDS, "command, result", (200, 202), json=self.command(), headers=headers
        )


class BatchUser(Client):
    """Sends many commands at once."""

    weight = OPTIONS.batch
    wait_time = constant_throughput(OPTIONS.rate / 10)

    @task
    def submit(self) -> None:
        """A batch."""
        batch = [self.command() for _ in range(OPTIONS.batch_size)]
        self.send("POST", BATCH, f"batch of {OPTIONS.batch_size}", (202,), json=batch)


class Reader(Client):
    """Asks for balances: half of them linearizable, half of any replica."""

    weight = OPTIONS.reads

    @task
    def read(self) -> None:
        """One account."""
        consistency = random.choice(("leader", "any"))
        path = f"/api/v1/accounts/{random.choice(ACCOUNTS)}?consistency={consistency}"
        self.send("GET", path, f"account, {consistency}", (200,))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def open_accounts(environment: Environment, **_: Any) -> None:
    """Each locust process opens accounts of its own, and puts money into them."""
    if environment.host is None:
        raise SystemExit("say which gateway: --host http://localhost:8080")
    opens = [{"type": "open", "account": each} for each in ACCOUNTS]
    deposits = [
        {"type": "deposit", "account": each, "amount": OPENING_BALANCE} for each in ACCOUNTS
    ]
    Client.host = environment.host
    user = Client(environment)
    user.send("POST", BATCH, "opening", (202,), json=[*opens, *deposits])
    headers = {"Prefer": "wait=10"}
    last = {"type": "deposit", "account": ACCOUNTS[0], "amount": 1, "id": uuid.uuid4().hex}
    user.send("POST", COMMANDS, "opening", (200, 202), json=last, headers=headers)
    environment.stats.clear_all()


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def judge(environment: Environment, **_: Any) -> None:
    """The exit code tells whether the run has passed; workers leave that to their master."""
    if isinstance(environment.runner, WorkerRunner):
        return
    found = _figures(environment.stats)
    missed = faults(found, OPTIONS)
    log.info("%s", found)
    for fault in missed:
        log.error("missed: %s", fault)
    environment.process_exit_code = 1 if missed else 0


def _figures(stats: RequestStats) -> Figures:
    total = stats.total
    turned_away = (e.num_requests for (name, _), e in stats.entries.items() if name == TURNED_AWAY)
    return Figures(
        requests=total.num_requests,
        turned_away=sum(turned_away),
        errors=total.num_failures,
        requests_per_s=total.total_rps,
        p50_ms=total.get_response_time_percentile(0.50) or 0.0,
        p99_ms=total.get_response_time_percentile(0.99) or 0.0,
    )
