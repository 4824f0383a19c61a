"""After a run: do all replicas hold the same, and what the results said?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loadtest.bench_system import (
    Stage,
    wait_until_settled,
)
from loadtest.progress import step
from postjournal.cluster.http import direct_session

ANSWER_S = 5.0
EXAMPLES = 10


class ReplicasCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`digests`: shard → replica → running hash of the journal; all of a shard must be equal.

    `balances_compared`: how many balances were asked of replicas' memory; `differences`: those
    that were not what the results had said, in words.
    """

    digests: dict[int, dict[str, str]]
    balances_compared: int
    differences: list[str]

    @property
    def ok(self) -> bool:
        """All replicas hold the same, and the right thing."""
        return not self.differences and all(
            len(set(digests.values())) == 1 for digests in self.digests.values()
        )


def check_replicas(stage: Stage, balances: Mapping[int, Mapping[str, int]]) -> ReplicasCheck:
    """Ask every replica for its digests and for `balances` (shard → account → balance).

    Raises `OperationFailed` when somebody else goes on sending commands.
    """
    with step("comparing the replicas"):
        digests: dict[int, dict[str, str]] = {}
        differences: list[str] = []
        compared = 0
        for shard in range(stage.plan.shards):
            rows = wait_until_settled(stage, shard, same_seq=True)
            digests[shard] = {row.name: row.digest or "" for row in rows}
            for row in rows:
                found = _differences(f"http://{row.http}", shard, balances.get(shard, {}))
                differences += [f"{row.name}: {text}" for text in found]
                compared += len(balances.get(shard, {}))
        return ReplicasCheck(
            digests=digests, balances_compared=compared, differences=differences[:EXAMPLES]
        )


def _differences(url: str, shard: int, balances: Mapping[str, int]) -> list[str]:
    found = []
    with direct_session() as session:
        for account, balance in balances.items():
            answer = session.get(
                f"{url}/query/{shard}",
                params={"account": account, "consistency": "any"},
                timeout=ANSWER_S,
            )
            held = answer.json().get("result") if answer.status_code == 200 else None
            if held is None or held.get("balance") != balance:
                found.append(f"{account} has {held}, the results said {balance}")
    return found


def check_line(check: ReplicasCheck) -> str:
    """In one line."""
    verdict = "[green]✔[/]" if check.ok else "[red]✘[/]"
    same = all(len(set(each.values())) == 1 for each in check.digests.values())
    count = max(map(len, check.digests.values()), default=0)
    return (
        f"{verdict} {count} replicas: digests {'equal' if same else 'DIFFERENT'}, "
        f"{check.balances_compared} balances compared with the results, "
        f"{len(check.differences)} differences"
    )


def check_faults(check: ReplicasCheck) -> list[str]:
    """What to tell when the replicas are not as they must be."""
    if check.ok:
        return []
    return [*check.differences, f"the replicas differ: {check.digests}"]
