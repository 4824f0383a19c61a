"""The ledger with a dump that takes as long as a large one would, so that it can be disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from postjournal.ledger import Accounts, Ledger


class SlowLedger(Ledger):
    """TEST_DUMP_S: seconds."""

    def dump(self, state: Accounts) -> Iterable[bytes]:
        end = time.monotonic() + float(os.environ.get("TEST_DUMP_S", "0"))
        while time.monotonic() < end:
            time.sleep(0.02)
            yield b"{}"
        yield from super().dump(state)
