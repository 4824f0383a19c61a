"""The users of Redis and their ACLs, as an `aclfile`. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

BALANCES, VIEW, OPERATOR = "consumer-balances", "leader-view", "operator"
USERS = (BALANCES, VIEW, OPERATOR)

TRANSACTIONS = "+multi +exec +discard +watch +unwatch"
COMMON = "+hello +auth +ping +client|setinfo +client|setname +select +reset"


def users_acl(namespace: str, passwords: Mapping[str, str]) -> str:
    """The text of the file. `passwords`: user → password; only their hashes are in it.

    The user `health` may only PING the server, and has no password.
    """
    balances, view = f"~{namespace}:balances:*", f"~{namespace}:shard:*"
    views = f"{view} ~{namespace}:replicas ~{namespace}:failovers &{namespace}:changes"
    rules = {
        BALANCES: f"{balances} {COMMON} {TRANSACTIONS} +hgetall +hset +del",
        VIEW: f"{views} {COMMON} {TRANSACTIONS} +hgetall +hset +hdel +del +xadd +xlen "
        "+xrevrange +publish",
        OPERATOR: f"%R~{namespace}:* &{namespace}:* {COMMON} +@read +scan +subscribe",
    }
    lines = ["user default off nopass nocommands", "user health on nopass -@all +ping"]
    for user, rule in rules.items():
        digest = hashlib.sha256(passwords[user].encode()).hexdigest()
        lines.append(f"user {user} on resetchannels -@all #{digest} {rule}")
    return "\n".join(lines) + "\n"
