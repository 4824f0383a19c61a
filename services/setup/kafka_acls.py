"""The ACLs of the deployment's Kafka users. Everything that is not here is denied. Pure.

Kafka's authorizer lets a user who may read or write a topic describe it as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from postjournal.adapters.kafka.settings import UNUSED_GROUP
from postjournal.adapters.kafka.users import Acl
from postjournal.cluster.topics import Topics

REPLICA, GATEWAY, COORDINATOR = "replica", "producer", "coordinator"
RESULTS, BALANCES, VIEW = "consumer-results", "consumer-balances", "leader-view"
KAFKA_UI, OPERATOR = "kafka-ui", "operator"
USERS = (REPLICA, GATEWAY, COORDINATOR, RESULTS, BALANCES, VIEW, KAFKA_UI, OPERATOR)

BENCH_TOPIC_PREFIX = "bench-"
"""Prefix of the topics that the operator's benches create and delete."""


def acls(topics: Topics) -> dict[str, set[Acl]]:
    """User → ACLs, for a system with these topics."""
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
            # The topics' settings are checked at each start.
            *_topics("DESCRIBE_CONFIGS", (*topics.source_topics, topics.journal, *sinks.values())),
            _no_group(),
        },
        GATEWAY: {
            *_topics("WRITE", [commands]),
            *_topics("READ", (results, topics.status)),
            _no_group(),
        },
        # It answers queries of the past from the journal and, with POSTJOURNAL_TRIM, deletes
        # journal records that no kept snapshot needs.
        COORDINATOR: {
            *_topics("WRITE", (topics.control, topics.status)),
            *_topics("READ", (topics.status, topics.control, topics.journal)),
            # It checks the settings of all topics.
            Acl("topic", everything, "DESCRIBE", prefixed=True),
            Acl("topic", everything, "DESCRIBE_CONFIGS", prefixed=True),
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
                Acl("topic", scratch, operation, prefixed=True)
                for operation in ("CREATE", "DELETE", "WRITE")
            ),
            _no_group(),
        },
    }


def _topics(operation: str, names: Iterable[str]) -> set[Acl]:
    return {Acl("topic", name, operation) for name in names}


def _no_group() -> Acl:
    """librdkafka looks up the coordinator of a consumer's group, whether it is used or not."""
    return Acl("group", UNUSED_GROUP, "DESCRIBE")
