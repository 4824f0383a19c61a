"""The partition of a key, the names of the topics and their settings."""

import ctypes

import pytest

from postjournal.adapters.kafka.admin import topic_settings
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


def test_commands_outputs_and_journal_are_kept_forever() -> None:
    topics = Topics.of("t", ("commands",), ("results",))
    settings = topic_settings(topics)
    forever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    for topic in ("t.commands", "t.results", "t.deadletter", "t.journal"):
        assert settings[topic].items() >= forever.items()


def test_control_records_are_deleted_within_twice_their_retention() -> None:
    """An open segment is never deleted, whatever the retention."""
    settings = topic_settings(Topics.of("t", (), ()))["t.control"]
    assert int(settings["segment.ms"]) <= int(settings["retention.ms"])
