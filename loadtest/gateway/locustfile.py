"""Load on the gateway: single, waiting and batch users, and readers.

    locust -f loadtest/gateway/locustfile.py --host http://localhost:8080 \
        --headless --users 50 --run-time 60s --html report.html

Weights, rates and thresholds are environment variables: see `loadtest/gateway/options.py`. A
headless run ends with exit code 1 when a threshold was missed. An answer of 503 or 429 with
Retry-After is not an error: it is counted separately, and the command is sent again with its id,
as clients should do.
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
from loadtest.gateway.verdict import TURNED_AWAY, Figures, missed_thresholds

OPTIONS = Options.from_environment()
RUN = uuid.uuid4().hex[:8]
ACCOUNTS = [f"load-{RUN}-{n}" for n in range(OPTIONS.accounts)]
OPENING_BALANCE = 1_000_000
ATTEMPTS = 20
COMMANDS, BATCH = "/api/v1/commands", "/api/v1/commands/batch"

log = logging.getLogger(__name__)


class Client(FastHttpUser):
    """Retries a request while the answer asks for it with Retry-After."""

    abstract = True
    wait_time = constant_throughput(OPTIONS.rate)

    def send(
        self, method: str, path: str, name: str, expected: tuple[int, ...], **options: Any
    ) -> None:
        """`expected`: the status codes that are not errors; `options`: of the request."""
        for left in reversed(range(ATTEMPTS)):
            with self.client.request(
                method, path, name=name, catch_response=True, **options
            ) as response:
                retry_after = _retry_after_s(response)
                if retry_after is not None and left:
                    response.request_meta["name"] = TURNED_AWAY
                    response.success()
                elif response.status_code in expected:
                    response.success()
                else:
                    response.failure(f"{response.status_code}: {(response.text or '')[:200]}")
            if retry_after is None:
                return
            time.sleep(retry_after)

    def command(self) -> dict[str, Any]:
        """A random command, which is accepted unless the account has insufficient funds."""
        source, target = random.sample(ACCOUNTS, 2)
        amount, command_id = random.randint(1, 100), uuid.uuid4().hex
        if random.random() < 0.7:
            return {
                "type": "transfer",
                "id": command_id,
                "from": source,
                "to": target,
                "amount": amount,
            }
        kind = random.choice(("deposit", "withdraw"))
        return {"type": kind, "id": command_id, "account": source, "amount": amount}


def _retry_after_s(response: Any) -> float | None:
    if response.status_code not in (429, 503) or "Retry-After" not in response.headers:
        return None
    return float(response.headers["Retry-After"])


class SingleUser(Client):
    """Sends a command and waits for Kafka's acknowledgement only."""

    weight = OPTIONS.single

    @task
    def submit(self) -> None:
        self.send("POST", COMMANDS, "command", (202,), json=self.command())


class WaitingUser(Client):
    """Sends a command and waits for its result."""

    weight = OPTIONS.waiting

    @task
    def submit(self) -> None:
        """Status 202: its result did not come in time."""
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
        batch = [self.command() for _ in range(OPTIONS.batch_size)]
        self.send("POST", BATCH, f"batch of {OPTIONS.batch_size}", (202,), json=batch)


class Reader(Client):
    """Reads balances: half of them linearizable, half from any replica."""

    weight = OPTIONS.reads

    @task
    def read(self) -> None:
        consistency = random.choice(("leader", "any"))
        path = f"/api/v1/accounts/{random.choice(ACCOUNTS)}?consistency={consistency}"
        self.send("GET", path, f"account, {consistency}", (200,))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def open_accounts(environment: Environment, **_: Any) -> None:
    """Open the accounts of this locust process, and deposit money into them."""
    if environment.host is None:
        raise SystemExit("no gateway is set: add, for example, --host http://localhost:8080")
    opens = [{"type": "open", "account": account} for account in ACCOUNTS]
    deposits = [
        {"type": "deposit", "account": account, "amount": OPENING_BALANCE} for account in ACCOUNTS
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
    """Set the exit code: whether the run has passed. Workers leave that to their master."""
    if isinstance(environment.runner, WorkerRunner):
        return
    figures = _figures(environment.stats)
    missed = missed_thresholds(figures, OPTIONS)
    log.info("%s", figures)
    for threshold in missed:
        log.error("missed: %s", threshold)
    environment.process_exit_code = 1 if missed else 0


def _figures(stats: RequestStats) -> Figures:
    total = stats.total
    turned_away = (
        entry.num_requests for (name, _), entry in stats.entries.items() if name == TURNED_AWAY
    )
    return Figures(
        requests=total.num_requests,
        turned_away=sum(turned_away),
        errors=total.num_failures,
        requests_per_s=total.total_rps,
        p50_ms=total.get_response_time_percentile(0.50) or 0.0,
        p99_ms=total.get_response_time_percentile(0.99) or 0.0,
    )
