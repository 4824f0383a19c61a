"""A plan of a local system that does not exist."""

from __future__ import annotations

from postjournal.cli.local.plan import Plan
from postjournal.cli.local.ports import well_known_ports

PLAN = Plan(
    token="t0ken",
    directory="/somewhere",
    namespace="ledger",
    replicas=2,
    shards=4,
    ports=well_known_ports(2),
    socket="/run/s",
    environment={"POSTJOURNAL_DEDUPE_WINDOW": "7"},
)
