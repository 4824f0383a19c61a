"""Every exception that Postjournal raises, in one tree.

    PostjournalError
    ├── ConfigurationError        the operator can mend it; the process must not start
    │   ├── TopicMismatch         a topic exists with other settings than the contract's
    │   ├── ShardCountMismatch    POSTJOURNAL_SHARDS differs from the topics' partitions
    │   └── StoreUnusable         the snapshot store's URL, bucket or rights are wrong
    ├── ShardHalted               this shard must not go on; nothing is lost
    │   ├── ApplicationFaulty     `evolve` or a sink raised, or is not deterministic
    │   ├── RecordsMissing        Kafka has deleted records that the shard needs next
    │   ├── SnapshotMismatch      the snapshots are of a system that is configured otherwise
    │   ├── SinkAhead             a sink's topic holds more than the journal explains
    │   └── NewerFormat           the journal goes on in a way that only a newer release reads
    ├── JournalUnavailable        Kafka does not answer; try again later
    ├── BrokersLost               this client of Kafka will never answer again; make a new one
    ├── StoreUnavailable          the snapshot store does not answer; try again later
    ├── SnapshotUnusable          this one cannot be restored here; an older one may
    │   ├── SnapshotDamaged       it is not what its manifest says
    │   └── SnapshotTooNew        a newer version wrote it
    ├── PointNotReached           the journal ends before the point that was asked for
    ├── SequenceGap               a subscriber missed at least one output
    ├── ReplicaUnavailable        (postjournal.cluster.query_client) a replica returned no answer
    └── OperationFailed           (postjournal.cli.errors) a command of the command line failed

Faults of the world raise one of these; a bug of ours fails an assertion. HTTP status codes are
chosen in `services` only.
"""


class PostjournalError(Exception):
    """The root of the tree."""


class ConfigurationError(PostjournalError):
    """The operator's configuration cannot work; the message says what to change."""


class TopicMismatch(ConfigurationError):
    """A topic exists with settings that would lose data or break the order."""


class ShardCountMismatch(ConfigurationError):
    """The configured number of shards is not the topics' number of partitions."""


class StoreUnusable(ConfigurationError):
    """The snapshot store cannot be used as it is configured."""


class ShardHalted(PostjournalError):
    """The shard stops processing and keeps what it has; other shards go on."""


class ApplicationFaulty(ShardHalted):
    """Application code that must not fail did, or gave another result than the leader's."""


class RecordsMissing(ShardHalted):
    """Kafka has deleted records that this shard still needs."""


class SnapshotMismatch(ShardHalted):
    """The snapshots are of another application, number of shards or dedupe window."""


class NewerFormat(ShardHalted):
    """A record that counts can only be read by a newer release, or version of the application."""

    def __init__(self, offset: int, what: str) -> None:
        """`offset`: the record's; `what`: why it cannot be read."""
        super().__init__(
            f"the journal's record at offset {offset} is {what}. Newer replicas have written it: "
            "update this one; it has changed nothing, and reads on from there"
        )


class SinkAhead(ShardHalted):
    """A sink's topic holds a sequence that the journal has not produced."""


class JournalUnavailable(PostjournalError):
    """Kafka did not answer in time."""


class BrokersLost(PostjournalError):
    """A client of Kafka that connects to nobody any more; see `adapters.lost_brokers`."""


class StoreUnavailable(PostjournalError):
    """The snapshot store did not do what it was asked to; it may later."""


class SnapshotUnusable(PostjournalError):
    """One snapshot cannot be restored here."""


class SnapshotDamaged(SnapshotUnusable):
    """A snapshot is not what its manifest says."""


class SnapshotTooNew(SnapshotUnusable):
    """A snapshot has a format or schema that this version does not know."""


class PointNotReached(PostjournalError):
    """The journal ends before the point in it that was asked for."""


class SequenceGap(PostjournalError):
    """A subscriber was handed sequence `got` while `expected` never came."""

    def __init__(self, topic: str, partition: int, expected: int, got: int) -> None:
        """`expected` and `got` are sequences of `topic`'s partition `partition`."""
        super().__init__(f"{topic}/{partition}: expected seq {expected}, got {got}")
        self.topic, self.partition, self.expected, self.got = topic, partition, expected, got
