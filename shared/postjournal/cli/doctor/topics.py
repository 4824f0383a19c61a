"""The topics of a running system: settings that would lose data, or keep it from working."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from postjournal.adapters.kafka.admin import check_topics, wait_for_kafka
from postjournal.adapters.kafka.topic_settings import TopicPlan, TopicProblem
from postjournal.app import load_application
from postjournal.cli.doctor.diagnosis import Finding, State
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from postjournal.core.errors import JournalUnavailable

TIMEOUT_S = 10.0


def diagnose_topics(environment: Mapping[str, str], bootstrap: str | None) -> list[Finding]:
    """The findings of the system that `environment` describes. Raises `ConfigurationError`."""
    settings = Settings.from_environment(environment)
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    try:
        admin = wait_for_kafka(settings.kafka.at(bootstrap), TIMEOUT_S)
        problems = check_topics(admin, topics, TopicPlan.of(settings))
    except JournalUnavailable as error:
        return [Finding("topics", State.BAD, str(error), "start the system's Kafka")]
    return list(_findings(topics, problems))


def _findings(topics: Topics, problems: list[TopicProblem]) -> Iterator[Finding]:
    for problem in problems:
        found = f"{problem.setting}={problem.found}, not {problem.wanted}: {problem.why}"
        yield Finding(problem.topic, State.BAD, found, problem.fix)
    if not problems:
        yield Finding("topics", State.GOOD, f"{len(topics.all)} topics have the right settings")
