"""What the settings of each topic must be, with the reason and the command that sets it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings

BIG_BYTES = 8_388_608
"""For the 8 MB of settings.journal_producer and settings.sink_producer."""

MINUTES_10 = str(10 * 60 * 1000)
DAY_MS = 24 * 3600 * 1000
WEEK_MS = 7 * DAY_MS
HOUR_MS = 3600 * 1000


@dataclass(frozen=True)
class TopicPlan:
    """How the topics of a system are laid out.

    `shards`: partitions of each; `replication`: copies; `fsync`: Kafka writes records to the disk
    before it acknowledges them.
    """

    shards: int
    replication: int
    fsync: bool = False

    @classmethod
    def of(cls, settings: Settings) -> TopicPlan:
        """The plan that the variables of a system describe."""
        return cls(settings.shards, settings.replication, settings.fsync)

    @property
    def min_in_sync(self) -> int:
        """Copies that must have a record before it is acknowledged: all but one, at least one."""
        return max(self.replication - 1, 1)


@dataclass(frozen=True)
class Requirement:
    """One setting of a topic.

    `value`: with which it is created, None: with Kafka's default; `is_met`: of the value that is
    found; `wanted`: in words; `why`: what is lost otherwise; `is_fatal`: a replica does not start.
    """

    setting: str
    value: str | None
    is_met: Callable[[str], bool]
    wanted: str
    why: str
    is_fatal: bool = False


@dataclass(frozen=True)
class TopicProblem:
    """A setting that is not as it must be. `fix`: the command, or advice."""

    topic: str
    setting: str
    found: str
    wanted: str
    why: str
    fix: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return (
            f"{self.topic} has {self.setting}={self.found}, but must have {self.wanted}: "
            f"{self.why}. Fix it with: {self.fix}"
        )


def _exactly(setting: str, value: str, why: str, *, is_fatal: bool = False) -> Requirement:
    return Requirement(setting, value, value.__eq__, value, why, is_fatal)


def _at_least(setting: str, lowest: int, why: str, value: str | None = None) -> Requirement:
    """-1 is no limit."""

    def is_met(found: str) -> bool:
        return int(found) == -1 or int(found) >= lowest

    return Requirement(setting, value, is_met, f"{lowest} or more", why)


def _of_all(plan: TopicPlan) -> Iterator[Requirement]:
    lost = "what a failed broker alone has acknowledged would be lost"
    yield _exactly("unclean.leader.election.enable", "false", lost)
    least, most = plan.min_in_sync, plan.replication
    yield Requirement(
        "min.insync.replicas",
        str(least),
        lambda found: least <= int(found) <= most,
        str(least),
        f"what fewer than {least} copies have may be lost, and more than {most} do not exist",
    )
    clocks = "records of a host whose clock differs would be refused"
    yield _at_least("message.timestamp.before.max.ms", DAY_MS, clocks)
    yield _at_least("message.timestamp.after.max.ms", HOUR_MS, clocks)


def _on_disk(plan: TopicPlan) -> Iterator[Requirement]:
    if plan.fsync:
        lost = "a power cut would lose what was acknowledged (POSTJOURNAL_FSYNC)"
        yield _exactly("flush.messages", "1", lost)


def _kept(what: str, *, is_fatal: bool) -> Iterator[Requirement]:
    lost = f"{what} would be lost"
    yield _exactly("cleanup.policy", "delete", lost, is_fatal=True)
    yield _exactly("retention.bytes", "-1", lost, is_fatal=is_fatal)


def _of_sources(plan: TopicPlan) -> Iterator[Requirement]:
    yield from _kept("commands that are not decided yet", is_fatal=False)
    lost = "commands that are not decided within this time would be lost"
    yield _at_least("retention.ms", WEEK_MS, lost, value="-1")
    yield from (*_of_all(plan), *_on_disk(plan))


def _of_journal(plan: TopicPlan) -> Iterator[Requirement]:
    yield from _kept("records of the journal", is_fatal=True)
    yield _exactly("retention.ms", "-1", "records of the journal would be lost", is_fatal=True)
    yield _at_least("max.message.bytes", BIG_BYTES, "entries would be refused", str(BIG_BYTES))
    yield from (*_of_all(plan), *_on_disk(plan))


def _of_sinks(plan: TopicPlan) -> Iterator[Requirement]:
    refused = "Kafka refuses outputs, which have no key, and nothing is published"
    yield _exactly("cleanup.policy", "delete", refused)
    yield _at_least("max.message.bytes", BIG_BYTES, "outputs would be refused", str(BIG_BYTES))
    unread = "consumers that do not run for longer miss outputs"
    yield _at_least("retention.ms", DAY_MS, unread, value="-1")
    yield Requirement("retention.bytes", "-1", lambda _: True, "-1", unread)
    yield from (*_of_all(plan), *_on_disk(plan))


def _of_control() -> Iterator[Requirement]:
    unread = "replicas would miss requests"
    yield _exactly("cleanup.policy", "delete", unread)
    yield _at_least("retention.ms", 60_000, unread, value=MINUTES_10)
    # Only closed segments are deleted, and by default a segment is closed after a week.
    endless = "old requests would be read at each start"
    yield Requirement(
        "segment.ms", MINUTES_10, lambda found: int(found) <= DAY_MS, "a day at most", endless
    )


def _of_status() -> Iterator[Requirement]:
    unread = "the state of the cluster would be unknown"
    yield _exactly("cleanup.policy", "delete", unread)
    yield _at_least("retention.ms", HOUR_MS, unread, value=str(WEEK_MS))


def requirements(topics: Topics, plan: TopicPlan) -> dict[str, tuple[Requirement, ...]]:
    """Topic → its settings that are set at its creation or checked later."""
    return {
        **dict.fromkeys(topics.source_topics, tuple(_of_sources(plan))),
        **dict.fromkeys(topics.sink_topics.values(), tuple(_of_sinks(plan))),
        topics.journal: tuple(_of_journal(plan)),
        topics.control: tuple(_of_control()),
        topics.status: tuple(_of_status()),
    }


def created_with(required: tuple[Requirement, ...]) -> dict[str, str]:
    """The settings of a new topic."""
    return {one.setting: one.value for one in required if one.value is not None}


def problems_of(
    topic: str, required: tuple[Requirement, ...], found: Mapping[str, str]
) -> Iterator[TopicProblem]:
    """Compare one topic. `found`: setting → value; what Kafka does not have is ignored."""
    for one in required:
        value = found.get(one.setting)
        if value is not None and not one.is_met(value):
            wanted = one.value or one.wanted.split()[0]
            yield TopicProblem(
                topic,
                one.setting,
                value,
                one.wanted,
                one.why,
                "kafka-configs.sh --alter --entity-type topics --entity-name "
                f"{topic} --add-config {one.setting}={wanted}",
                one.is_fatal,
            )
