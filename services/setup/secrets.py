"""Creates all passwords once, and gives each service those that it needs.

The secret store is a volume that no other service mounts; it has one file per password. From it
this module fills the services' volumes, each of which only that service mounts, read-only. No
password is printed or put into an environment variable, and the first start needs no file of the
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
"""40 hex digits: the maximum length of MinIO, and 160 bits."""

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


class SecretStore:
    """Passwords by name, in files of `folder`; each is created when it is first read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def password(self, name: str) -> str:
        """The password `name`; always the same."""
        path = self._folder / name
        if not path.exists():
            _write(path, secrets.token_hex(PASSWORD_BYTES))
        return path.read_text()


def distribute(store: Path, volumes: Path, namespace: str, bootstrap: str) -> None:
    """Write `volumes`/SERVICE for every service, from the secret store in the folder `store`.

    `namespace`: of topics and keys; `bootstrap`: Kafka's host:port for services.
    """
    for service, files in contents(SecretStore(store).password, namespace, bootstrap).items():
        for name, text in files.items():
            _write(volumes / service / name, text)
    log.info("secrets are written")


def contents(password: Callable[[str], str], namespace: str, bootstrap: str) -> Files:
    """The files of each service's volume; `password`: returns the password of a name."""
    kafka = {user: password(f"kafka-{user}") for user in kafka_acls.USERS}
    redis = {user: password(f"redis-{user}") for user in redis_acls.USERS}
    token = password("api-token")
    store = {name: password(f"store-{name}") for name in ("root", "replica", "coordinator")}
    jaas = {"broker": password("kafka-broker"), "admin": password("kafka-admin")}
    kafka_ui = KAFKA_UI.format(bootstrap=bootstrap, scram=SCRAM, password=kafka["kafka-ui"])
    files: Files = {
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
        files.setdefault(user, {})["kafka-password"] = value
    for user, value in redis.items():
        files.setdefault(user, {})["redis-password"] = value
    for user in ("replica", "coordinator"):
        files[user]["store-password"] = store[user]
        files[user]["api-token"] = token  # a replica requires it for POST /crash
    return files


def _write(path: Path, text: str) -> None:
    """Write atomically. World-readable: only the service that mounts the volume can see it."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o444)
    new.rename(path)
