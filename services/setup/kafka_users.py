"""Makes the cluster's users and acls what `kafka_acls` says."""

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
from services.setup.kafka_acls import Right

log = logging.getLogger(__name__)

ANSWER_S = 20.0
ITERATIONS = 4096
"""Kafka's least; passwords are long and random, so that more would only slow logins down."""

RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    # The name that confluent-kafka has for the cluster; brokers call it that no longer.
    "cluster": ResourceType.BROKER,
}


def set_passwords(admin: AdminClient, passwords: Mapping[str, str]) -> None:
    """User → password. Raises `JournalUnavailable`."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, info, password.encode())
        for user, password in passwords.items()
    ]
    _settle(admin.alter_user_scram_credentials(changes), "passwords")
    log.info("users: %s", ", ".join(sorted(passwords)))


def set_rights(admin: AdminClient, wanted: Mapping[str, set[Right]]) -> None:
    """User → acls; what else these users had is taken away. Raises `JournalUnavailable`."""
    bindings = {_binding(user, right) for user, found in wanted.items() for right in found}
    principals = {_principal(user) for user in wanted}
    have = {each for each in _existing(admin) if each.principal in principals}
    new, gone = list(bindings - have), [_filter(each) for each in have - bindings]
    if new:
        _settle(admin.create_acls(new), "acls")
    if gone:
        _settle(admin.delete_acls(gone), "acls")
    log.info("acls: %d, of them %d are new; %d taken away", len(bindings), len(new), len(gone))


def _settle(answers: Mapping[Any, Future[Any]], what: str) -> None:
    try:
        for answer in answers.values():
            answer.result(ANSWER_S)
    except KafkaException as error:
        raise JournalUnavailable(f"{what} cannot be set: {error.args[0].str()}") from error


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
    found: list[AclBinding] = admin.describe_acls(everything).result(ANSWER_S)
    return found


def _principal(user: str) -> str:
    return f"User:{user}"


def _binding(user: str, right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        RESOURCES[right.resource],
        right.name,
        pattern,
        _principal(user),
        "*",
        AclOperation[right.operation],
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
