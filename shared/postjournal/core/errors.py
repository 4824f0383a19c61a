"""Every exception that Postjournal raises, in one tree.

    PostjournalError
    ├── ConfigurationError        the operator can fix it; the process must not start
    │   ├── TopicMismatch         a topic exists with other settings than the contract's
    │   ├── ShardCountMismatch    POSTJOURNAL_SHARDS differs from the topics' partitions
    │   └── StoreUnusable         the snapshot store's URL, bucket or rights are wrong
    ├── ShardHalted               this shard must not go on; nothing is lost
    │   ├── ApplicationFaulty     `evolve` or a sink raised, or is not deterministic
    │   ├── RecordsMissing        Kafka has deleted records that the shard needs next
    │   ├── SnapshotMismatch      the snapshots belong to a system with another configuration
    │   ├── SinkAhead             a sink's topic holds more than the journal explains
    │   └── NewerFormat           only a newer release can read the next accepted record
    ├── JournalUnavailable        Kafka does not answer; try again later
    ├── BrokersLost               this Kafka client has lost its brokers for good; replace it
    ├── StoreUnavailable          the snapshot store does not answer; try again later
    ├── SnapshotUnusable          one snapshot cannot be restored here; an older one may
    │   ├── SnapshotDamaged       it does not match its manifest
    │   └── SnapshotTooNew        a newer version wrote it
    ├── PointNotReached           the journal ends before the requested point
    ├── SequenceGap               a subscriber missed at least one output
    ├── ReplicaUnavailable        (postjournal.cluster.query_client) a replica returned no answer
    └── OperationFailed           (postjournal.cli.errors) a command of the command line failed

External faults raise one of these; a bug of Postjournal fails an assertion. Only `services`
chooses HTTP status codes.
"""


class PostjournalError(Exception):
    """The root of the exception tree."""


class ConfigurationError(PostjournalError):
    """The operator's configuration cannot work; the message names what to change."""


class TopicMismatch(ConfigurationError):
    """A topic exists with settings that would lose data or break the order."""


class ShardCountMismatch(ConfigurationError):
    """The configured number of shards is not the topics' number of partitions."""


class StoreUnusable(ConfigurationError):
    """The snapshot store cannot be used with its current configuration."""


class ShardHalted(PostjournalError):
    """The shard stops processing and keeps its data; other shards continue."""


class ApplicationFaulty(ShardHalted):
    """Application code that must not fail did, or gave another result than the leader's."""


class RecordsMissing(ShardHalted):
    """Kafka has deleted records that this shard still needs."""


class SnapshotMismatch(ShardHalted):
    """The snapshots are of another application, number of shards or dedupe window."""


class NewerFormat(ShardHalted):
    """An accepted record can be read only by a newer release, or version of the application."""

    def __init__(self, offset: int, what: str) -> None:
        """`offset`: the record's in the journal; `what`: why it cannot be read."""
        super().__init__(
            f"the journal's record at offset {offset} is {what}. A newer release has written it: "
            "update this replica; it has changed nothing, and continues from there"
        )


class SinkAhead(ShardHalted):
    """A sink's topic holds a sequence that the journal has not produced."""


class JournalUnavailable(PostjournalError):
    """Kafka did not answer in time; try again later."""


class BrokersLost(PostjournalError):
    """A Kafka client has lost all its brokers for good; see `adapters.kafka.client`."""


class StoreUnavailable(PostjournalError):
    """The snapshot store did not carry out a request; it may later."""


class SnapshotUnusable(PostjournalError):
    """One snapshot cannot be restored here."""


class SnapshotDamaged(SnapshotUnusable):
    """A snapshot does not match its manifest."""


class SnapshotTooNew(SnapshotUnusable):
    """A snapshot has a format or schema that this version does not know."""


class PointNotReached(PostjournalError):
    """The journal ends before the requested point."""


class SequenceGap(PostjournalError):
    """A subscriber received sequence `got` although `expected` never arrived."""

    def __init__(self, topic: str, partition: int, expected: int, got: int) -> None:
        """`expected` and `got` are sequences of `topic`'s partition `partition`."""
        super().__init__(f"{topic}/{partition}: expected seq {expected}, got {got}")
        self.topic, self.partition, self.expected, self.got = topic, partition, expected, got
