"""The deployment's secrets and acls."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.core.errors import ConfigurationError
from services.setup import kafka_acls, redis_acls
from services.setup.kafka_acls import acls
from services.setup.secrets import Vault, contents, distribute

TOPICS = Topics.of("ledger", ("commands", "feed"), ("results", "balances"))


def may(user: str, operation: str) -> set[str]:
    return {acl.name for acl in acls(TOPICS)[user] if acl.operation == operation}


# --- Kafka ----------------------------------------------------------------------------------


def test_only_replicas_may_write_journal_and_sinks() -> None:
    for topic in (TOPICS.journal, *TOPICS.sink_topics.values()):
        writers = {user for user in kafka_acls.USERS if topic in may(user, "WRITE")}
        assert writers == {kafka_acls.REPLICA}


def test_the_gateway_may_write_its_source_and_nothing_else() -> None:
    assert may(kafka_acls.GATEWAY, "WRITE") == {"ledger.commands"}


@pytest.mark.parametrize(
    "user",
    [
        kafka_acls.RESULTS,
        kafka_acls.BALANCES,
        kafka_acls.VIEW,
        kafka_acls.KAFKA_UI,
    ],
)
def test_readers_may_change_nothing(user: str) -> None:
    operations = {acl.operation for acl in acls(TOPICS)[user]}
    assert operations <= {"READ", "DESCRIBE", "DESCRIBE_CONFIGS"}


def test_only_the_benches_may_create_topics() -> None:
    for user in kafka_acls.USERS:
        made = {e for e in acls(TOPICS)[user] if e.operation in ("CREATE", "ALTER", "ALL")}
        assert {acl.name for acl in made} <= {"ledger.bench-"}


def test_the_acls_follow_the_applications_topics() -> None:
    topics = Topics.of("shop", ("orders",), ("invoices",))
    found = acls(topics)[kafka_acls.REPLICA]
    names = {acl.name for acl in found if acl.resource == "topic"}
    assert {"shop.orders", "shop.invoices", "shop.deadletter", "shop.journal"} <= names
    assert not any(name.startswith("ledger") for name in names)


def test_a_user_without_a_password_is_a_wrong_configuration(tmp_path: Path) -> None:
    assert KafkaAccess.from_environment({}).username is None
    with pytest.raises(ConfigurationError, match="PASSWORD_FILE"):
        KafkaAccess.from_environment({"POSTJOURNAL_KAFKA_USERNAME": "replica"})
    missing = str(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="none"):
        KafkaAccess.from_environment(
            {
                "POSTJOURNAL_KAFKA_USERNAME": "replica",
                "POSTJOURNAL_KAFKA_PASSWORD_FILE": missing,
            }
        )


def test_every_client_authenticates(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\n")
    access = KafkaAccess.from_environment(
        {
            "POSTJOURNAL_KAFKA_USERNAME": "replica",
            "POSTJOURNAL_KAFKA_PASSWORD_FILE": str(tmp_path / "password"),
        }
    )
    for make in (
        kafka_settings.admin,
        kafka_settings.journal_producer,
        kafka_settings.claim_producer,
        kafka_settings.sink_producer,
        kafka_settings.gateway_producer,
        kafka_settings.control_producer,
        kafka_settings.engine_consumer,
        kafka_settings.tail_consumer,
        kafka_settings.follower_consumer,
        kafka_settings.audit_consumer,
        lambda access: kafka_settings.subscriber_consumer(access, "group"),
    ):
        config = make(access)
        assert (config["sasl.username"], config["sasl.password"]) == ("replica", "geheim")
        assert config["sasl.mechanism"] == "SCRAM-SHA-512"


def test_a_client_without_a_user_does_not_authenticate() -> None:
    config = kafka_settings.admin(KafkaAccess("kafka:9092"))
    assert not [name for name in config if name.startswith(("sasl.", "security.", "ssl."))]


def test_kafkas_password_is_not_in_the_text_of_its_access() -> None:
    assert "geheim" not in repr(KafkaAccess("kafka:9092", "replica", "geheim"))


# --- Redis ----------------------------------------------------------------------------------


def test_redis_passwords_are_in_the_file_as_hashes_only() -> None:
    passwords = {user: f"password-of-{user}" for user in redis_acls.USERS}
    text = redis_acls.users_acl("ledger", passwords)
    for password in passwords.values():
        assert password not in text
        assert hashlib.sha256(password.encode()).hexdigest() in text
    assert text.startswith("user default off")


# --- secrets --------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    vault, volumes = tmp_path / "vault", tmp_path / "secrets"
    vault.mkdir()
    for service in contents(Vault(vault).password, "ledger", "kafka:9092"):
        (volumes / service).mkdir(parents=True)
    return vault, volumes


def read(volumes: Path) -> dict[str, str]:
    files = [path for path in volumes.rglob("*") if path.is_file()]
    return {str(path.relative_to(volumes)): path.read_text() for path in files}


def test_a_second_start_changes_no_secret(folders: tuple[Path, Path]) -> None:
    distribute(*folders, "ledger", "kafka:9092")
    first = read(folders[1])
    distribute(*folders, "ledger", "kafka:9092")
    assert read(folders[1]) == first
    assert len(first) > 20


def test_passwords_are_unique_and_cannot_be_guessed(
    folders: tuple[Path, Path],
) -> None:
    distribute(*folders, "ledger", "kafka:9092")
    passwords = [path.read_text() for path in folders[0].iterdir()]
    assert len(set(passwords)) == len(passwords)
    assert min(map(len, passwords)) == 40


def test_a_service_gets_its_own_secrets_only(tmp_path: Path) -> None:
    found = contents(lambda name: f"<{name}>", "ledger", "kafka:9092")
    for service in kafka_acls.USERS:
        held = " ".join(found[service].values())
        others = [f"<kafka-{user}>" for user in kafka_acls.USERS if user != service]
        assert f"<kafka-{service}>" in held
        assert not any(other in held for other in others)
        assert "<kafka-admin>" not in held
        assert "<store-root>" not in held
    assert "<api-token>" not in " ".join(found["producer"].values())


def test_secrets_are_not_logged(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    distribute(*folders, "ledger", "kafka:9092")
    passwords = [path.read_text() for path in folders[0].iterdir()]
    assert not any(password in caplog.text for password in passwords)


def test_a_new_namespace_changes_acls_and_no_password(folders: tuple[Path, Path]) -> None:
    distribute(*folders, "ledger", "kafka:9092")
    before = read(folders[1])
    distribute(*folders, "shop", "kafka:9092")
    changed = {name for name, text in read(folders[1]).items() if before[name] != text}
    assert changed == {"redis/users.acl"}
