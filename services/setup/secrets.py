"""Makes passwords once, and gives each service the ones that it needs.

The vault is a volume that no other service mounts; it has one file per password. The volumes of
the services are filled from it, and only the service itself mounts its volume, read-only. No
password is printed or put into an environment variable, and the first start needs no file on the
host.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path

from services.setup import kafka_acls, redis_acls

log = logging.getLogger(__name__)

Files = dict[str, dict[str, str]]
"""Service → file name → content."""

PASSWORD_BYTES = 20
"""40 hex digits: the most that MinIO accepts, and too many to guess."""

JAAS = """\
internal.KafkaServer {{ {plain} username="broker" password="{broker}" \
user_broker="{broker}" user_admin="{admin}"; }};
controller.KafkaServer {{ {plain} username="broker" password="{broker}" user_broker="{broker}"; }};
client.KafkaServer {{ {scram}; }};
host.KafkaServer {{ {scram}; }};
"""
KAFKA_UI = """\
kafka:
  clusters:
    - name: postjournal
      bootstrapServers: {bootstrap}
      readOnly: true
      properties:
        security.protocol: SASL_PLAINTEXT
        sasl.mechanism: SCRAM-SHA-512
        sasl.jaas.config: {scram} username="kafka-ui" password="{password}";
"""
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class Vault:
    """Passwords by name, each made when it is first read."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists and can be written."""
        self._folder = folder

    def password(self, name: str) -> str:
        """The password of this name, which never changes."""
        path = self._folder / name
        if not path.exists():
            _write(path, secrets.token_hex(PASSWORD_BYTES))
        return path.read_text()


def distribute(vault: Path, volumes: Path, namespace: str, bootstrap: str) -> None:
    """Fill `volumes`/SERVICE for every service.

    `namespace`: of topics and keys; `bootstrap`: Kafka's address for services.
    """
    for service, files in contents(Vault(vault).password, namespace, bootstrap).items():
        for name, text in files.items():
            _write(volumes / service / name, text)
    log.info("secrets are in place")


def contents(password: Callable[[str], str], namespace: str, bootstrap: str) -> Files:
    """The files of each service's volume. `password`: from a password's name to the password."""
    kafka = {user: password(f"kafka-{user}") for user in kafka_acls.USERS}
    redis = {user: password(f"redis-{user}") for user in redis_acls.USERS}
    token = password("api-token")
    store = {name: password(f"store-{name}") for name in ("root", "replica", "coordinator")}
    jaas = {"broker": password("kafka-broker"), "admin": password("kafka-admin")}
    kafka_ui = KAFKA_UI.format(bootstrap=bootstrap, scram=SCRAM, password=kafka["kafka-ui"])
    found: Files = {
        "kafka": {"jaas.conf": JAAS.format(plain=PLAIN, scram=SCRAM, **jaas)},
        "redis": {"users.acl": redis_acls.users_acl(namespace, redis)},
        "minio": {"root-password": store["root"]},
        "minio-setup": {f"{name}-password": value for name, value in store.items()},
        "kafka-setup": {"kafka-password": jaas["admin"], **kafka},
        "kafka-ui": {"kafka-ui.yml": kafka_ui},
        "grafana": {"admin-password": password("grafana-admin")},
        "operator": {"api-token": token, "grafana-password": password("grafana-admin")},
    }
    for user, value in kafka.items():
        found.setdefault(user, {})["kafka-password"] = value
    for user, value in redis.items():
        found.setdefault(user, {})["redis-password"] = value
    for user in ("replica", "coordinator"):
        found[user]["store-password"] = store[user]
        found[user]["api-token"] = token  # a replica requires it in requests to crash it
    return found


def _write(path: Path, text: str) -> None:
    """Write whole or not at all; readable for every user, as only one service mounts the volume."""
    if path.exists() and path.read_text() == text:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o444)
    fresh.rename(path)
