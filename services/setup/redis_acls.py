"""The users of Redis, as its `aclfile`. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

BALANCES, VIEW, OPERATOR = "consumer-balances", "leader-view", "operator"
USERS = (BALANCES, VIEW, OPERATOR)

TRANSACTIONS = "+multi +exec +discard +watch +unwatch"
CONNECTION = "+hello +auth +ping +client|setinfo +client|setname +select +reset"


def users_acl(namespace: str, passwords: Mapping[str, str]) -> str:
    """The content of the file. `passwords`: by user; the file holds only their hashes.

    The user `health` has no password and may only send PING.
    """
    balances, view = f"~{namespace}:balances:*", f"~{namespace}:shard:*"
    views = f"{view} ~{namespace}:replicas ~{namespace}:failovers &{namespace}:changes"
    rules = {
        BALANCES: f"{balances} {CONNECTION} {TRANSACTIONS} +hgetall +hset +del",
        VIEW: f"{views} {CONNECTION} {TRANSACTIONS} +hgetall +hset +hdel +del +xadd +xlen "
        "+xrevrange +publish",
        OPERATOR: f"%R~{namespace}:* &{namespace}:* {CONNECTION} +@read +scan +subscribe",
    }
    lines = ["user default off nopass nocommands", "user health on nopass -@all +ping"]
    for user, rule in rules.items():
        digest = hashlib.sha256(passwords[user].encode()).hexdigest()
        lines.append(f"user {user} on resetchannels -@all #{digest} {rule}")
    return "\n".join(lines) + "\n"
