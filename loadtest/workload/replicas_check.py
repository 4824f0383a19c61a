"""After a run: whether all replicas hold the same state, and the balances of the results."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import msgspec

from loadtest.progress import check_mark, step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.workload.query_connection import QueryConnection

QUERY_TIMEOUT_S = 5.0
EXAMPLES = 10


class ReplicasCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`digests`: shard → replica → running hash of the journal; all of a shard must be equal.

    `balances_compared`: how many balances were read from replicas' memory; `differences`:
    descriptions of those that differ from the results.
    """

    digests: dict[int, dict[str, str]]
    balances_compared: int
    differences: list[str]

    @property
    def has_equal_digests(self) -> bool:
        return all(len(set(digests.values())) == 1 for digests in self.digests.values())

    @property
    def ok(self) -> bool:
        return self.has_equal_digests and not self.differences

    def summary(self) -> str:
        """One line, with rich's markup."""
        count = max(map(len, self.digests.values()), default=0)
        return (
            f"{check_mark(self.ok)} {count} replicas: "
            f"digests {'equal' if self.has_equal_digests else 'DIFFERENT'}, "
            f"{self.balances_compared} balances compared with the results, "
            f"{len(self.differences)} differences"
        )

    def failures(self) -> list[str]:
        """What to print when the check failed; empty when it passed."""
        return [] if self.ok else [*self.differences, f"the replicas differ: {self.digests}"]


def check_replicas(system: BenchSystem, balances: Mapping[int, Mapping[str, int]]) -> ReplicasCheck:
    """Compare every replica's digests, and its balances with `balances` (shard → account → …).

    Raises `OperationFailed` when another client goes on sending commands.
    """
    with step("comparing the replicas"):
        digests: dict[int, dict[str, str]] = {}
        differences: list[str] = []
        compared = 0
        for shard in range(system.plan.shards):
            rows = wait_until_settled(system, shard, same_seq=True)
            digests[shard] = {row.name: row.digest or "" for row in rows}
            for row in rows:
                found = _differences(row.http, shard, balances.get(shard, {}))
                differences += [f"{row.name}: {text}" for text in found]
                compared += len(balances.get(shard, {}))
        return ReplicasCheck(
            digests=digests, balances_compared=compared, differences=differences[:EXAMPLES]
        )


def _differences(address: str, shard: int, balances: Mapping[str, int]) -> list[str]:
    with closing(QueryConnection(address, shard, QUERY_TIMEOUT_S)) as connection:
        answers = [connection.balance(account) for account in balances]
    return [
        f"{answer.account} has balance {answer.balance} ({answer.error or 'no error'}), but "
        f"{balances[answer.account]} in the results"
        for answer in answers
        if answer.balance != balances[answer.account]
    ]
