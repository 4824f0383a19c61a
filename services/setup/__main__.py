"""`python -m services.setup secrets|kafka`: one-shot services; a second run changes nothing."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

from postjournal.adapters.kafka.admin import ensure_topics, wait_for_kafka
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.adapters.kafka.users import set_acls, set_passwords
from postjournal.app import load_application
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from postjournal.core.errors import ConfigurationError, JournalUnavailable
from services.process import run
from services.setup.kafka_acls import acls
from services.setup.secrets import distribute

log = logging.getLogger("services.setup")

SECRET_STORE, VOLUMES, OWN = Path("/vault"), Path("/secrets"), Path("/run/secrets")
"""The paths at which the deployment mounts the volumes."""

TIMEOUT_S = 120.0


def make_secrets() -> None:
    """Create the secrets that do not exist yet; see `services.setup.secrets`."""
    settings = Settings.from_environment()
    distribute(SECRET_STORE, VOLUMES, settings.namespace, settings.kafka.bootstrap)


def prepare_kafka() -> None:
    """Create the topics and, where this process has a Kafka user, all services' users and ACLs."""
    settings = Settings.from_environment()
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    admin = wait_for_kafka(settings.kafka, TIMEOUT_S)
    ensure_topics(admin, topics, TopicPlan.of(settings), timeout_s=TIMEOUT_S)
    if settings.kafka.username:
        wanted = acls(topics)
        set_passwords(admin, {user: (OWN / user).read_text() for user in wanted})
        set_acls(admin, wanted)
    log.info("Kafka is prepared")


def main(what: str) -> None:
    """Run the job `what`. Raises `ConfigurationError` when there is no such job."""
    jobs = {"secrets": make_secrets, "kafka": prepare_kafka}
    if what not in jobs:
        raise ConfigurationError(f"unknown setup job {what!r}: it must be {' or '.join(jobs)}")
    try:
        jobs[what]()
    except JournalUnavailable as error:
        log.critical("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    run(partial(main, sys.argv[1] if len(sys.argv) > 1 else ""))
