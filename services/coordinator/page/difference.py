"""The difference between what one page shows and the current model."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from services.coordinator.page.fragments import Fragment, fragments_of
from services.coordinator.page.model import PageModel


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """An update of the page; `live.js` reads it.

    `fragments`: new or changed, an enclosing one first; `removed`: ids of elements to remove;
    `events`: lines for the list of events.
    """

    fragments: tuple[Fragment, ...] = msgspec.field(default=(), name="parts")
    removed: tuple[str, ...] = msgspec.field(default=(), name="gone")
    events: tuple[str, ...] = msgspec.field(default=(), name="say")


class Difference:
    """Compares each model with the one before it; the page is empty before the first."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._states: dict[str, str] | None = None
        self._failovers: set[tuple[int, int]] = set()

    def update(self, model: PageModel) -> Message:
        """Return the message that brings the page up to `model`."""
        fragments = list(fragments_of(model))
        changed: list[Fragment] = []
        changed_ids: set[str] = set()
        for fragment in fragments:
            if self._shown.get(fragment.id) != fragment.html or fragment.into in changed_ids:
                changed.append(fragment)
                changed_ids.add(fragment.id)
        removed = tuple(self._shown.keys() - {fragment.id for fragment in fragments})
        self._shown = {fragment.id: fragment.html for fragment in fragments}
        return Message(tuple(changed), removed, tuple(self._events(model)))

    def _events(self, model: PageModel) -> Iterator[str]:
        """Changes of roles, and failovers; none for the first model."""
        states = {replica.key: replica.state for replica in model.replicas}
        previous_states, self._states = self._states, states
        failovers = {(failover.shard, failover.epoch) for failover in model.failovers}
        known_failovers, self._failovers = self._failovers, failovers
        if previous_states is None:
            return
        for replica in model.replicas:
            if previous_states.get(replica.key) not in (replica.state, None):
                yield f"{replica.replica} is {replica.state} in shard {replica.shard}"
        for failover in reversed(model.failovers):
            if (failover.shard, failover.epoch) not in known_failovers:
                yield failover.summary
