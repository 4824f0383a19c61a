"""The ACLs of the deployment's Kafka users. Pure. Everything that is not listed is denied.

Kafka's authorizer implies DESCRIBE by READ and by WRITE.
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
"""The group of consumers that assign their partitions themselves; see `kafka.settings`."""

BENCH_TOPIC_PREFIX = "bench-"
"""The prefix of the topics that the operator's benches create and delete."""


@dataclass(frozen=True, order=True)
class Acl:
    """One allowed operation.

    `resource`: topic, group or cluster; `operation`: Kafka's name; `prefixed`: of all resources
    whose name starts with `name`.
    """

    resource: str
    name: str
    operation: str
    prefixed: bool = False


def acls(topics: Topics) -> dict[str, set[Acl]]:
    """User → ACLs, for the topics of one namespace."""
    sinks = topics.sink_topics
    results, balances = topics.topic("results"), topics.topic("balances")
    commands, everything = topics.topic("commands"), f"{topics.namespace}."
    bench_topics = topics.topic(BENCH_TOPIC_PREFIX)
    group = f"{topics.namespace}.consumer.results"
    return {
        REPLICA: {
            *_topics("READ", (*topics.source_topics, topics.control)),
            *_topics("READ", (topics.journal, *sinks.values())),
            *_topics("WRITE", (topics.journal, *sinks.values(), topics.status)),
            # Replicas check the journal's retention at each start.
            *_topics("DESCRIBE_CONFIGS", [topics.journal]),
            _no_group(),
        },
        GATEWAY: {
            *_topics("WRITE", [commands]),
            *_topics("READ", (results, topics.status)),
            _no_group(),
        },
        # The coordinator reads the journal for queries of the past, and with POSTJOURNAL_TRIM it
        # deletes journal records that no kept snapshot needs.
        COORDINATOR: {
            *_topics("WRITE", (topics.control, topics.status)),
            *_topics("READ", (topics.status, topics.control, topics.journal)),
            *_topics("DESCRIBE", sinks.values()),
            *_topics("DELETE", [topics.journal]),
            _no_group(),
        },
        RESULTS: {*_topics("READ", [results]), Acl("group", group, "READ")},
        BALANCES: {*_topics("READ", [balances]), _no_group()},
        VIEW: {*_topics("READ", [topics.status]), _no_group()},
        KAFKA_UI: {
            Acl("topic", everything, "READ", prefixed=True),
            Acl("topic", everything, "DESCRIBE_CONFIGS", prefixed=True),
            Acl("group", "*", "DESCRIBE"),
            Acl("cluster", "kafka-cluster", "DESCRIBE"),
            Acl("cluster", "kafka-cluster", "DESCRIBE_CONFIGS"),
        },
        OPERATOR: {
            Acl("topic", everything, "READ", prefixed=True),
            Acl("topic", everything, "DESCRIBE_CONFIGS", prefixed=True),
            *_topics("WRITE", (*topics.source_topics, topics.control)),
            *(
                Acl("topic", bench_topics, operation, prefixed=True)
                for operation in ("CREATE", "DELETE", "WRITE")
            ),
            _no_group(),
        },
    }


def _topics(operation: str, names: Iterable[str]) -> set[Acl]:
    return {Acl("topic", name, operation) for name in names}


def _no_group() -> Acl:
    """librdkafka looks up the coordinator of a consumer's group even if the group is unused."""
    return Acl("group", NO_GROUP, "DESCRIBE")
