"""The partition of a key, the names of the topics and their settings."""

import ctypes

import pytest

from postjournal.adapters.kafka.topic_settings import TopicPlan, created_with, requirements
from postjournal.cluster.topics import Topics
from postjournal.core.sharding import _murmur2, shard_of


# The vectors of Apache Kafka's own UtilsTest.testMurmur2.
@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_keys_are_hashed_as_kafkas_java_clients_do(key: str, hashed: int) -> None:
    assert ctypes.c_int32(_murmur2(key.encode())).value == hashed


def test_every_key_has_one_shard_within_range() -> None:
    shards = {shard_of(f"key-{n}".encode(), 7) for n in range(1000)}
    assert shards == set(range(7))


def test_topic_names_are_those_of_the_contract() -> None:
    topics = Topics.of("ledger", ("commands", "feed"), ("results", "balances"))
    assert set(topics.all) == {
        *("ledger.commands", "ledger.feed", "ledger.journal", "ledger.results"),
        *("ledger.balances", "ledger.deadletter", "ledger.control", "ledger.status"),
    }


def created(topics: Topics, plan: TopicPlan | None = None) -> dict[str, dict[str, str]]:
    """Topic → the settings with which it is created."""
    required = requirements(topics, plan or TopicPlan(1, 1))
    return {topic: created_with(settings) for topic, settings in required.items()}


def test_with_fsync_records_are_on_the_disk_before_they_are_acknowledged() -> None:
    topics = Topics.of("t", ("commands",), ("results",))
    flushed = {"t.commands", "t.results", "t.deadletter", "t.journal"}
    for fsync in (False, True):
        settings = created(topics, TopicPlan(1, 1, fsync))
        found = {topic for topic, one in settings.items() if one.get("flush.messages") == "1"}
        assert found == (flushed if fsync else set())


def test_all_copies_but_one_must_have_a_record() -> None:
    topics = Topics.of("t", ("commands",), ())
    for replication, least in ((1, "1"), (2, "1"), (3, "2"), (5, "4")):
        settings = created(topics, TopicPlan(1, replication))
        assert settings["t.journal"]["min.insync.replicas"] == least
        assert settings["t.commands"]["min.insync.replicas"] == least


def test_commands_outputs_and_journal_are_kept_forever() -> None:
    topics = Topics.of("t", ("commands",), ("results",))
    settings = created(topics)
    forever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    for topic in ("t.commands", "t.results", "t.deadletter", "t.journal"):
        assert settings[topic].items() >= forever.items()


def test_control_records_are_deleted_within_twice_their_retention() -> None:
    """An open segment is never deleted, whatever the retention."""
    settings = created(Topics.of("t", (), ()))["t.control"]
    assert int(settings["segment.ms"]) <= int(settings["retention.ms"])
