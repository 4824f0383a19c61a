"""The ledger with a dump that lasts until a test has done what it wants to do meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from postjournal.ledger import Accounts, Ledger


class SlowLedger(Ledger):
    """TEST_DUMP_ENDS: a file; a dump ends when it is there."""

    def dump(self, state: Accounts) -> Iterable[bytes]:
        end = Path(os.environ["TEST_DUMP_ENDS"])
        while not end.exists():
            time.sleep(0.02)
            yield b"{}"
        yield from super().dump(state)
