"""Clients of the gateway that resend each command until it is decided, and count the answers."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import requests

CLIENTS = 4
PAUSE_S = 0.02
TIMEOUT_S = 60.0


class HttpLoad:
    """Deposits of 1 from several threads, each resent with its id until it is decided.

    `decided`: how many; `wrong`: answers other than a result, 202, and 503 with Retry-After.
    """

    def __init__(self, url: str) -> None:
        """Opens a new account, `account`."""
        self._url = f"{url}/api/v1"
        self.account = f"load-{uuid.uuid4().hex[:8]}"
        self.decided = 0
        self.wrong: list[str] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.decide({"type": "open", "account": self.account, "id": uuid.uuid4().hex})
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> HttpLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Wait until `count` more commands are decided."""
        wanted, deadline = self.decided + count, time.monotonic() + TIMEOUT_S
        while self.decided < wanted:
            assert time.monotonic() < deadline, f"{self.decided} decided; {self.wrong[:3]}"
            time.sleep(0.02)

    @property
    def balance(self) -> int:
        """The account's balance, by a linearizable read."""
        answer = requests.get(f"{self._url}/accounts/{self.account}", timeout=10)
        found: int = answer.json()["balance"]
        return found

    def check(self) -> None:
        """Assert, after the end, that each deposit took effect once and no answer was wrong."""
        assert self.balance == self.decided
        assert self.wrong == []

    def decide(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send `command` until its result is returned."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            assert time.monotonic() < deadline, f"never decided: {command}"
            try:
                answer = requests.post(
                    f"{self._url}/commands", json=command, headers={"Prefer": "wait=5"}, timeout=20
                )
            except requests.RequestException as error:
                self.wrong.append(str(error))
                continue
            if answer.status_code == 200:
                result: dict[str, Any] = answer.json()
                return result
            if answer.status_code == 503 and "Retry-After" in answer.headers:
                time.sleep(0.2)  # less than Retry-After, to keep the tests short
            elif answer.status_code != 202:
                self.wrong.append(f"{answer.status_code}: {answer.text}")

    def _run(self) -> None:
        while not self._stop.is_set():
            command = {"type": "deposit", "account": self.account, "amount": 1}
            result = self.decide(command | {"id": uuid.uuid4().hex})
            if result["status"] != "accepted":
                self.wrong.append(str(result))
            with self._lock:
                self.decided += 1
            time.sleep(PAUSE_S)
