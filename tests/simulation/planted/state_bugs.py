"""Bugs of the state: deciding, applying, remembering; snapshots; new incarnations.

`(right, wrong)` by what goes wrong: see `bugs`.
"""

from __future__ import annotations

MACHINE = {
    "a rejection is not remembered": (
        "            remember(outcome)\n",
        "            events is None or remember(outcome)\n",
    ),
    "a repeat is decided again": (
        "            if first is not None:\n                into.append(",
        "            if first is not None and first.rejected:\n                into.append(",
    ),
    "a repeat is given anew what it was given first": (
        "first.events, first.rejected, replayed=True",
        "first.events, first.rejected, replayed=False",
    ),
    "of several events only the first is applied by the leader": (
        "                for event in events or ():\n",
        "                for event in (events or ())[:1]:\n",
    ),
    "of several events only the first is applied by standbys": (
        "                for event in item.events or ():\n",
        "                for event in (item.events or ())[:1]:\n",
    ),
    "a standby does not remember what it was told": (
        "        window.add_all(batch[added:])\n",
        "",
    ),
    "a standby does not follow the sources": (
        "        self.sources.update(entry.sources)\n",
        "",
    ),
    "a standby makes outputs at another time": (
        "partial(self._make, sink, outcomes, entry.time)",
        "partial(self._make, sink, outcomes, entry.time + 1)",
    ),
    "the place in a source is that of the last command, not the next": (
        "self.sources[topic] = records[len(outcomes) - before - 1][0] + 1",
        "self.sources[topic] = records[len(outcomes) - before - 1][0]",
    ),
    "an entry that is full counts all records of its source": (
        "self.sources[topic] = records[len(outcomes) - before - 1][0] + 1",
        "self.sources[topic] = records[-1][0] + 1",
    ),
    "a command nested too deeply is an exception": (
        "except (*UNREADABLE, TypeError) as error:",
        "except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:",
    ),
    "commands of another shard are taken": (
        "if sharded and not self._is_own(record[1]):",
        "if not sharded and not self._is_own(record[1]):",
    ),
    "a poisoned command is not remembered": (
        "        self.window.add(outcome)\n",
        "",
    ),
}

DEDUPE = {
    "a leader remembers one command more than a standby": (
        "if len(order) == self.size:",
        "if len(order) > self.size:",
    ),
    "a standby forgets nothing": (
        "for _ in range(len(order) + len(outcomes) - self.size):",
        "for _ in range(0):",
    ),
}

SNAPSHOT = {
    "a snapshot forgets the dedupe window": (
        "machine.window.add_all(_decode_with(decoder, body))",
        "_decode_with(decoder, body)",
    ),
    "a snapshot forgets the places in the sources": (
        "machine.sources = dict(header.sources)",
        "machine.sources = {}",
    ),
    "a snapshot forgets the outputs that are not published": (
        "outbox.resume(Outputs(first, values[sink]))",
        "outbox.resume(Outputs(header.sinks[sink], []))",
    ),
    "a snapshot forgets that the leader has resigned": (
        "resigned=header.resigned,",
        "resigned=False,",
    ),
    "a snapshot has a leader alive where it was taken": (
        "        alive_at=header.alive_at,\n        resigned=header.resigned,",
        "        alive_at=header.offset,\n        resigned=header.resigned,",
    ),
    "a snapshot forgets the marks": (
        "published=dict(header.published),",
        "published={},",
    ),
    "a snapshot forgets who leads": (
        "        leader=header.leader,\n",
        "        leader=None,\n",
    ),
}

SNAPSHOT_TAKER = {
    "a leader's snapshot holds what is in flight": (
        "        if is_quiet:",
        "        if request:",
    ),
    "an order for another replica is carried out": (
        "request.replica != self._replica or key in self._recent",
        "key in self._recent",
    ),
    "two snapshots are taken at a time": (
        "        if busy:",
        "        if not request:",
    ),
}

RECOVERY = {
    "a damaged snapshot ends the search": (
        "            skipped[manifest.id] = str(error)",
        "            break",
    ),
}

RUNTIME = {
    "a new incarnation is told what was for the one before": (
        "if self.replica.incarnation != incarnation:",
        "if not incarnation:",
    ),
    "effects are carried out in another order": (
        "for effect in effects:",
        "for effect in reversed(effects):",
    ),
    "a new incarnation has the name of the one before": (
        "self.replica = self._make_replica(self._new_incarnation())\n        self._ports",
        "self.replica = self._make_replica(self.replica.incarnation)\n        self._ports",
    ),
    "a new incarnation reads on where the one before was": (
        "        self._ports.log.rewind()\n",
        "",
    ),
    "a new incarnation is given the snapshot of the one before": (
        "        self._ports.log.rewind()\n        self._ports.snapshots.cancel()\n",
        "        self._ports.log.rewind()\n",
    ),
    "tripwires are not looked at": (
        "[*ports.tripwire.poll(), *ports.inbox.poll()]",
        "[*ports.inbox.poll()]",
    ),
}
