"""Bugs of the state: deciding, applying, deduplicating; snapshots; new incarnations.

See the package's docstring for the format.
"""

from __future__ import annotations

from tests.simulation.planted.planting import Change

STATE_MACHINE: dict[str, Change] = {
    "a rejection is not remembered": (
        "remember(outcome)",
        "events is None or remember(outcome)",
    ),
    "a rejected duplicate is decided again": (
        "if first is not None:\n    into.append(",
        "if first is not None and first.rejected:\n    into.append(",
    ),
    "a duplicate is not marked as replayed": (
        "first.events, first.rejected, replayed=True",
        "first.events, first.rejected, replayed=False",
    ),
    "the leader applies only the first of several events": (
        "for event in events or ():",
        "for event in (events or ())[:1]:",
    ),
    "standbys apply only the first of several events": (
        "for event in item.events or ():",
        "for event in (item.events or ())[:1]:",
    ),
    "a standby does not remember outcomes": (
        "window.add_all(batch[added:])",
        "",
    ),
    "a standby does not follow the sources": (
        "self.sources.update(entry.sources)",
        "",
    ),
    "a standby makes outputs with another time": (
        "partial(self._make, sink, outcomes, entry.time)",
        "partial(self._make, sink, outcomes, entry.time + 1)",
    ),
    "the position in a source is the last command instead of the next": (
        "self.sources[topic] = records[len(outcomes) - before - 1][0] + 1",
        "self.sources[topic] = records[len(outcomes) - before - 1][0]",
    ),
    "a full entry advances the source past commands that did not fit": (
        "self.sources[topic] = records[len(outcomes) - before - 1][0] + 1",
        "self.sources[topic] = records[-1][0] + 1",
    ),
    "a command nested too deeply raises an exception": (
        "except (*UNREADABLE, TypeError) as error:",
        "except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:",
    ),
    "commands of another shard are decided": (
        "if sharded and not self._is_own(record[1]):",
        "if not sharded and not self._is_own(record[1]):",
    ),
    "a dead letter is not remembered": (
        "self.window.add(outcome)",
        "",
    ),
}

DEDUPE: dict[str, Change] = {
    "a leader remembers one command more than a standby": (
        "if len(order) == self.size:",
        "if len(order) > self.size:",
    ),
    "a standby never forgets an outcome": (
        "for _ in range(len(order) + len(outcomes) - self.size):",
        "for _ in range(0):",
    ),
}

SNAPSHOT: dict[str, Change] = {
    "a restored snapshot lacks the dedupe window": (
        "machine.window.add_all(_decode_with(decoder, body))",
        "_decode_with(decoder, body)",
    ),
    "a restored snapshot lacks the positions in the sources": (
        "machine.sources = dict(header.sources)",
        "machine.sources = {}",
    ),
    "a restored snapshot lacks the unpublished outputs": (
        "outbox.resume(Outputs(first, values[sink]))",
        "outbox.resume(Outputs(header.sinks[sink], []))",
    ),
    "a restored snapshot lacks the leader's resignation": (
        "resigned=header.resigned",
        "resigned=False",
    ),
    "a restored snapshot has the leader alive at its own offset": (
        "alive_at=header.alive_at",
        "alive_at=header.offset",
    ),
    "a restored snapshot lacks the marks": (
        "published=dict(header.published)",
        "published={}",
    ),
    "a restored snapshot lacks the leader": (
        "leader=header.leader",
        "leader=None",
    ),
}

SNAPSHOT_TAKER: dict[str, Change] = {
    "a leader's snapshot includes entries in flight": (
        "if is_quiet:",
        "if request:",
    ),
    "a snapshot request for another replica is carried out": (
        "request.replica != self._replica or key in self._recent",
        "key in self._recent",
    ),
    "two snapshots are taken at the same time": (
        "if busy:",
        "if not request:",
    ),
}

RECOVERY: dict[str, Change] = {
    "a damaged snapshot ends the search": (
        "skipped[manifest.id] = str(error)",
        "break",
    ),
}

RUNTIME: dict[str, Change] = {
    "a new incarnation receives messages for the one before": (
        "if self.replica.incarnation != incarnation:",
        "if not incarnation:",
    ),
    "effects are carried out in another order": (
        "for effect in effects:",
        "for effect in reversed(effects):",
    ),
    "a new incarnation has the name of the one before": (
        "self._make_replica(self._new_incarnation())",
        "self._make_replica(self.replica.incarnation)",
    ),
    "a new incarnation continues at the position of the one before": (
        "self._ports.log.rewind()",
        "",
    ),
    "a new incarnation receives the snapshot of the one before": (
        "self._ports.snapshots.cancel()",
        "",
        "Runtime._rebuild",
    ),
    "tripwires are not polled": (
        "[*ports.tripwire.poll(), *ports.inbox.poll()]",
        "[*ports.inbox.poll()]",
    ),
}
