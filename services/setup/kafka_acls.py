"""What each of the deployment's Kafka users may do. Everything that is not here is denied. Pure.

Kafka's authorizer lets whoever may read or write a topic describe it as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from postjournal.cluster.topics import Topics

REPLICA, GATEWAY, COORDINATOR = "replica", "producer", "coordinator"
RESULTS, BALANCES, VIEW = "consumer-results", "consumer-balances", "leader-view"
KAFKA_UI, OPERATOR = "kafka-ui", "operator"
USERS = (REPLICA, GATEWAY, COORDINATOR, RESULTS, BALANCES, VIEW, KAFKA_UI, OPERATOR)

NO_GROUP = "postjournal-unused"
"""The group that consumers name which assign by hand; see `kafka_settings`."""

BENCH_TOPIC_PREFIX = "bench-"
"""Topics that the operator's benches make and delete."""


@dataclass(frozen=True, order=True)
class Right:
    """`resource`: topic or group; `operation`: Kafka's name; `prefixed`: of all such names."""

    resource: str
    name: str
    operation: str
    prefixed: bool = False


def acls(topics: Topics) -> dict[str, set[Right]]:
    """User → acls."""
    sinks = topics.sink_topics
    results, balances = topics.topic("results"), topics.topic("balances")
    commands, everything = topics.topic("commands"), f"{topics.namespace}."
    scratch = topics.topic(BENCH_TOPIC_PREFIX)
    group = f"{topics.namespace}.consumer.results"
    return {
        REPLICA: {
            *_topics("READ", (*topics.source_topics, topics.control)),
            *_topics("READ", (topics.journal, *sinks.values())),
            *_topics("WRITE", (topics.journal, *sinks.values(), topics.status)),
            # The journal's retention is checked at each start.
            *_topics("DESCRIBE_CONFIGS", [topics.journal]),
            _no_group(),
        },
        GATEWAY: {
            *_topics("WRITE", [commands]),
            *_topics("READ", (results, topics.status)),
            _no_group(),
        },
        # It answers queries of the past from the journal, and deletes journal records that no kept
        # snapshot needs, if it is told to.
        COORDINATOR: {
            *_topics("WRITE", (topics.control, topics.status)),
            *_topics("READ", (topics.status, topics.control, topics.journal)),
            *_topics("DESCRIBE", sinks.values()),
            *_topics("DELETE", [topics.journal]),
            _no_group(),
        },
        RESULTS: {*_topics("READ", [results]), Right("group", group, "READ")},
        BALANCES: {*_topics("READ", [balances]), _no_group()},
        VIEW: {*_topics("READ", [topics.status]), _no_group()},
        KAFKA_UI: {
            Right("topic", everything, "READ", prefixed=True),
            Right("topic", everything, "DESCRIBE_CONFIGS", prefixed=True),
            Right("group", "*", "DESCRIBE"),
            Right("cluster", "kafka-cluster", "DESCRIBE"),
            Right("cluster", "kafka-cluster", "DESCRIBE_CONFIGS"),
        },
        OPERATOR: {
            Right("topic", everything, "READ", prefixed=True),
            Right("topic", everything, "DESCRIBE_CONFIGS", prefixed=True),
            *_topics("WRITE", (*topics.source_topics, topics.control)),
            *(
                Right("topic", scratch, operation, prefixed=True)
                for operation in ("CREATE", "DELETE", "WRITE")
            ),
            _no_group(),
        },
    }


def _topics(operation: str, names: Iterable[str]) -> set[Right]:
    return {Right("topic", name, operation) for name in names}


def _no_group() -> Right:
    """librdkafka looks for the coordinator of a consumer's group, used or not."""
    return Right("group", NO_GROUP, "DESCRIBE")
