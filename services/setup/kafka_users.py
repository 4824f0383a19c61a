"""Creates Kafka's users, and makes their ACLs those of `kafka_acls`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
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

from postjournal.core.errors import JournalUnavailable
from services.setup.kafka_acls import Acl

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 20.0
ITERATIONS = 4096
"""Kafka's minimum; the passwords are long and random, so more would only slow down logins."""

RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    # confluent-kafka's name for the cluster resource; brokers have renamed it.
    "cluster": ResourceType.BROKER,
}


def set_passwords(admin: AdminClient, passwords: Mapping[str, str]) -> None:
    """Create or change users; `passwords`: by user. Raises `JournalUnavailable`."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, info, password.encode())
        for user, password in passwords.items()
    ]
    _wait(admin.alter_user_scram_credentials(changes), "passwords")
    log.info("passwords are set for users %s", ", ".join(sorted(passwords)))


def set_acls(admin: AdminClient, wanted: Mapping[str, set[Acl]]) -> None:
    """Make the ACLs of the users in `wanted` exactly these. Raises `JournalUnavailable`."""
    bindings = {_binding(user, acl) for user, acls in wanted.items() for acl in acls}
    principals = {_principal(user) for user in wanted}
    existing = {binding for binding in _existing(admin) if binding.principal in principals}
    added, removed = (
        list(bindings - existing),
        [_filter(binding) for binding in existing - bindings],
    )
    if added:
        _wait(admin.create_acls(added), "ACLs")
    if removed:
        _wait(admin.delete_acls(removed), "ACLs")
    log.info("ACLs: %d wanted, %d added, %d removed", len(bindings), len(added), len(removed))


def _wait(answers: Mapping[Any, Future[Any]], what: str) -> None:
    try:
        for answer in answers.values():
            answer.result(ANSWER_TIMEOUT_S)
    except KafkaException as error:
        raise JournalUnavailable(f"cannot set {what}: {error.args[0].str()}") from error


def _existing(admin: AdminClient) -> list[AclBinding]:
    # None matches any name, principal and host.
    everything = AclBindingFilter(
        ResourceType.ANY,
        None,  # type: ignore[arg-type]
        ResourcePatternType.ANY,
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    found: list[AclBinding] = admin.describe_acls(everything).result(ANSWER_TIMEOUT_S)
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
