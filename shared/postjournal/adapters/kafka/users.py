"""The users of the Kafka cluster and their ACLs, made to match what is wanted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from postjournal.adapters.kafka.client import translated

log = logging.getLogger(__name__)

ANSWER_S = 20.0
ITERATIONS = 4096
"""Kafka's minimum; passwords are long and random, so that more would only slow logins down."""

RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    # confluent-kafka's name for the cluster.
    "cluster": ResourceType.BROKER,
}


@dataclass(frozen=True, order=True)
class Acl:
    """One operation that a user may do.

    `resource`: topic, group or cluster; `operation`: Kafka's name; `prefixed`: `name` is a prefix.
    """

    resource: str
    name: str
    operation: str
    prefixed: bool = False


def set_passwords(admin: AdminClient, passwords: Mapping[str, str]) -> None:
    """Create or change the users (user → password). Raises `JournalUnavailable`."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, info, password.encode())
        for user, password in passwords.items()
    ]
    _settle(admin.alter_user_scram_credentials(changes), "passwords")
    log.info("users: %s", ", ".join(sorted(passwords)))


def set_acls(admin: AdminClient, wanted: Mapping[str, set[Acl]]) -> None:
    """Give these users (user → ACLs) these ACLs and no others. Raises `JournalUnavailable`."""
    bindings = {_binding(user, acl) for user, acls in wanted.items() for acl in acls}
    principals = {_principal(user) for user in wanted}
    existing = {binding for binding in _existing(admin) if binding.principal in principals}
    new = list(bindings - existing)
    removed = [_filter(binding) for binding in existing - bindings]
    if new:
        _settle(admin.create_acls(new), "ACLs")
    if removed:
        _settle(admin.delete_acls(removed), "ACLs")
    log.info("ACLs: %d, of which %d are new; %d removed", len(bindings), len(new), len(removed))


def _settle(answers: Mapping[Any, Future[Any]], what: str) -> None:
    with translated(f"{what} cannot be set"):
        for answer in answers.values():
            answer.result(ANSWER_S)


def _existing(admin: AdminClient) -> list[AclBinding]:
    # None stands for any name, principal and host.
    everything = AclBindingFilter(
        ResourceType.ANY,
        None,  # type: ignore[arg-type]
        ResourcePatternType.ANY,
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    with translated("ACLs cannot be listed"):
        found: list[AclBinding] = admin.describe_acls(everything).result(ANSWER_S)
    return found


def _principal(user: str) -> str:
    return f"User:{user}"


def _binding(user: str, acl: Acl) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        RESOURCES[acl.resource],
        acl.name,
        pattern,
        _principal(user),
        "*",
        AclOperation[acl.operation],
        AclPermissionType.ALLOW,
    )


def _filter(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )
