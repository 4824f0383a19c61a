"""Checks the settings of all topics now and then: an operator may change one at any time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import check_topics
from postjournal.adapters.kafka.client import make_admin
from postjournal.adapters.kafka.topic_settings import TopicPlan, TopicProblem
from postjournal.adapters.process.pulse import LIMIT_S, Pulse
from postjournal.app import load_application
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from postjournal.core.errors import ConfigurationError, JournalUnavailable
from services.coordinator.metrics import Metrics

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
FIRST_S = 10.0
"""Before the first check: in a new system the replicas create the topics meanwhile."""

UNREADABLE = "unreadable"
"""In place of a setting: the check itself has failed."""


class TopicWatch:
    """The checks, in a thread of their own."""

    def __init__(
        self,
        check: Callable[[], list[TopicProblem]],
        metrics: Metrics,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """`check` raises `JournalUnavailable`. Does nothing before `start`."""
        self._check, self._metrics, self._interval_s = check, metrics, interval_s
        self._known: dict[tuple[str, str], str] = {}  # topic and setting → text
        self._closing = Event()
        self._thread = Thread(target=self._run, name="topics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; a check that is under way is not waited for."""
        self._closing.set()

    def _run(self) -> None:
        with Pulse("topics", self._interval_s + LIMIT_S) as pulse:
            self._closing.wait(FIRST_S)
            while not self._closing.is_set():
                self.run_once()
                pulse.beat()
                self._closing.wait(self._interval_s)

    def run_once(self) -> None:
        """Check all topics; log what has changed since the last time."""
        try:
            problems = self._check()
        except JournalUnavailable as error:
            self._show(self._known | {("all", UNREADABLE): str(error)})
        else:
            self._show({(one.topic, one.setting): str(one) for one in problems})

    def _show(self, found: dict[tuple[str, str], str]) -> None:
        for key, text in found.items():
            if self._known.get(key) != text:
                log.warning("%s", text)
            self._metrics.topic_problem.labels(*key).set(1)
        self._metrics.topic_problem.labels("all", UNREADABLE).set(("all", UNREADABLE) in found)
        for key in self._known.keys() - found.keys():
            log.info("%s: %s is as it must be again", *key)
            self._metrics.topic_problem.labels(*key).set(0)
        self._known = found


def topic_check(settings: Settings) -> Callable[[], list[TopicProblem]]:
    """The check of a system's topics, with a new client each time."""
    topics, plan = topics_of(settings), TopicPlan.of(settings)
    config = kafka_settings.admin(settings.kafka)
    return lambda: check_topics(make_admin(config), topics, plan)


def topics_of(settings: Settings) -> Topics:
    """Those of the application; only the engine's own when it cannot be loaded here."""
    try:
        application = load_application(settings.app)
    except ConfigurationError as error:
        log.warning("the topics of the application are not checked: %s", error)
        return Topics.of(settings.namespace, (), ())
    return Topics.of(settings.namespace, application.sources, application.sinks)
