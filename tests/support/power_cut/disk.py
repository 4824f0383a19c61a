"""The disk below one folder: what it holds after a power cut, from the record of `recorder.c`.

The page cache is dropped: what was not synced is undone, all of it, as if the kernel had written
nothing by itself. POSIX guarantees no more:

- A file's content is durable up to the last write, truncation included, that returned before a
  successful fsync or fdatasync of the file began.
- A name (a creation, a rename, a deletion) is durable once the directory was synced.

In one respect the disk is that of ext4, XFS and btrfs instead: the sync of a file or directory
makes the names on its own path durable too, because they are in the same transaction of the file
system's journal. POSIX requires a sync of each directory above it (`strict`). Kafka 4.3 relies on
the former: it creates a partition's directory and does not sync the one above
(`LogManager.createLogDirectory`), which is synced only with the next checkpoint, some seconds
later. On a strict disk a cut 2.6 s after the first start deleted all topics, `__cluster_metadata`
too, whatever had been synced in them; later cuts, of topics just as young, lost nothing.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

HEADER = struct.Struct("=iiqq")
"""`struct header` of recorder.c: operation, descriptor, number, length of the payload."""

CLEARED = (".index", ".timeindex", ".txnindex")
"""Kafka writes its indexes through a mapping: all their bytes are zero after the cut, whatever was
synced. They keep their size, which is metadata of the file system."""


class Operation(IntEnum):
    """`enum operation` of recorder.c."""

    OPENED = 1
    CLOSED = 2
    WRITTEN = 3
    TRUNCATED = 4
    SYNC_BEGINS = 5
    SYNC_ENDS = 6
    RENAMED = 7
    CREATED_DIRECTORY = 8
    REMOVED = 9


@dataclass(eq=False)
class Node:
    """A file or a directory, apart from its name. `parent`, `name`: where it is now."""

    parent: Directory | None = None
    name: str = ""


@dataclass(eq=False)
class Directory(Node):
    """`synced`: the number of the sync that `durable` is from."""

    names: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    synced: int = 0

    def put(self, name: str, node: Node) -> None:
        self.names[name] = node
        node.parent, node.name = self, name


@dataclass(frozen=True)
class Write:
    position: int
    data: bytes


@dataclass(eq=False)
class File(Node):
    """`changes`: in order, an int truncates or extends; the first `durable` of them are synced."""

    changes: list[Write | int] = field(default_factory=list)
    durable: int = 0

    def content(self, changes: int) -> bytes:
        """After so many changes."""
        found = bytearray()
        for change in self.changes[:changes]:
            if isinstance(change, Write):
                end = change.position + len(change.data)
                found.extend(bytes(max(0, change.position - len(found))))
                found[change.position : end] = change.data
            else:
                del found[change:]
                found.extend(bytes(change - len(found)))
        return bytes(found)

    @property
    def size(self) -> int:
        """After all changes."""
        size = 0
        for change in self.changes:
            if isinstance(change, Write):
                size = max(size, change.position + len(change.data))
            else:
                size = change
        return size


@dataclass(frozen=True)
class PendingSync:
    """What a sync that has begun makes durable. `path`: the node, its directory, and so on."""

    node: Node
    changes: int
    names: dict[str, Node]
    path: list[Node]


@dataclass
class Undone:
    """What a power cut has undone."""

    names: int = 0
    writes: int = 0
    bytes: int = 0


class Disk:
    """All that is in `folder` when the object is created counts as durable."""

    def __init__(self, folder: Path, *, strict: bool = False) -> None:
        self.folder = folder
        self._strict = strict
        self._root = _read(folder)

    def cut_power(self, record: Path) -> Undone:
        """Undo in `folder` what the process of `record`, which was killed, had not synced.

        Fails if the folder is not what the record describes: then the process has changed it in
        a way that is not recorded.
        """
        Replay(self._root, strict=self._strict).run(record)
        difference = next(_differences(self._root, self.folder), None)
        assert difference is None, f"{difference} was changed in a way that is not recorded"
        undone = Undone()
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        _write(self._root, self.folder, undone)
        self._root = _read(self.folder)
        return undone


class Replay:
    """Applies a record to the nodes below `root`."""

    def __init__(self, root: Directory, *, strict: bool) -> None:
        self._root, self._strict = root, strict
        self._open: dict[int, Node] = {}
        self._syncing: dict[int, PendingSync] = {}

    def run(self, record: Path) -> None:
        for operation, descriptor, number, payload in _entries(record.read_bytes()):
            self._apply(operation, descriptor, number, payload)

    def _apply(self, operation: Operation, descriptor: int, number: int, payload: bytes) -> None:
        match operation:
            case Operation.OPENED:
                self._open[descriptor] = self._opened(payload, flags=number)
            case Operation.CLOSED:
                del self._open[descriptor]
            case Operation.WRITTEN:
                self._file(descriptor).changes.append(Write(number, payload))
            case Operation.TRUNCATED:
                self._file(descriptor).changes.append(number)
            case Operation.SYNC_BEGINS:
                self._syncing[number] = _pending_sync(self._open[descriptor])
            case Operation.SYNC_ENDS:
                self._end_sync(number, self._syncing.pop(number))
            case Operation.RENAMED:
                before, after = payload.split(b"\0")
                directory, name = self._find(before)
                node = directory.names.pop(name)
                directory, name = self._find(after)
                directory.put(name, node)
            case Operation.CREATED_DIRECTORY:
                directory, name = self._find(payload)
                directory.put(name, Directory())
            case Operation.REMOVED:
                directory, name = self._find(payload)
                del directory.names[name]

    def _file(self, descriptor: int) -> File:
        file = self._open[descriptor]
        assert isinstance(file, File)
        return file

    def _find(self, path: bytes) -> tuple[Directory, str]:
        """The directory of a path, and the name in it."""
        *parents, name = _parts(path)
        directory = self._root
        for parent in parents:
            found = directory.names[parent]
            assert isinstance(found, Directory)
            directory = found
        return directory, name

    def _opened(self, path: bytes, flags: int) -> Node:
        if not _parts(path):
            return self._root
        directory, name = self._find(path)
        if name not in directory.names:
            directory.put(name, File())
        node = directory.names[name]
        if flags & os.O_TRUNC:
            assert isinstance(node, File)
            node.changes.append(0)
        return node

    def _end_sync(self, number: int, sync: PendingSync) -> None:
        node = sync.node
        if isinstance(node, File):
            node.durable = max(node.durable, sync.changes)
        elif isinstance(node, Directory) and number > node.synced:
            node.durable, node.synced = sync.names, number
        if not self._strict:
            for child, parent in zip(sync.path, sync.path[1:], strict=False):
                _make_name_durable(child, parent)


def _make_name_durable(node: Node, parent: Node) -> None:
    """Unless the node was renamed or deleted since the sync began."""
    assert isinstance(parent, Directory)
    if parent.names.get(node.name) is not node:
        return
    # A rename is one transaction: the earlier name disappears with it.
    for name in [name for name, known in parent.durable.items() if known is node]:
        del parent.durable[name]
    parent.durable[node.name] = node


def _pending_sync(node: Node) -> PendingSync:
    path = [node]
    while (parent := path[-1].parent) is not None:
        path.append(parent)
    changes = len(node.changes) if isinstance(node, File) else 0
    names = dict(node.names) if isinstance(node, Directory) else {}
    return PendingSync(node, changes, names, path)


def _entries(record: bytes) -> Iterator[tuple[Operation, int, int, bytes]]:
    """Operation, descriptor, number and payload of each entry."""
    position = 0
    while position < len(record):
        operation, descriptor, number, length = HEADER.unpack_from(record, position)
        position += HEADER.size
        payload = record[position : position + length]
        assert len(payload) == length, "the record is cut off: the lock was not respected"
        position += length
        yield Operation(operation), descriptor, number, payload


def _parts(path: bytes) -> list[str]:
    normal = posixpath.normpath(f"/{os.fsdecode(path)}").strip("/")
    return normal.split("/") if normal else []


def _read(folder: Path) -> Directory:
    """All that is in the folder, as durable."""
    directory = Directory()
    for entry in folder.iterdir():
        node: Node
        if entry.is_dir():
            node = _read(entry)
        elif entry.suffix in CLEARED:
            node = File(changes=[entry.stat().st_size], durable=1)
        else:
            node = File(changes=[Write(0, entry.read_bytes())], durable=1)
        directory.put(entry.name, node)
    directory.durable = dict(directory.names)
    return directory


def _differences(directory: Directory, folder: Path) -> Iterator[Path]:
    """Where the folder, that is the page cache, is not what the record describes."""
    found = {entry.name for entry in folder.iterdir()}
    yield from (folder / name for name in found ^ directory.names.keys())
    for name, node in directory.names.items():
        path = folder / name
        if isinstance(node, Directory):
            yield from _differences(node, path)
        elif isinstance(node, File) and path.suffix in CLEARED:
            if path.stat().st_size != node.size:
                yield path
        elif isinstance(node, File) and path.read_bytes() != node.content(len(node.changes)):
            yield path


def _write(directory: Directory, folder: Path, undone: Undone) -> None:
    """What is durable, and nothing else."""
    changed = directory.names.items() ^ directory.durable.items()
    undone.names += len(changed)
    for name, node in directory.durable.items():
        path = folder / name
        if isinstance(node, Directory):
            path.mkdir()
            _write(node, path, undone)
        elif isinstance(node, File) and path.suffix in CLEARED:
            path.touch()
            os.truncate(path, node.size)
        elif isinstance(node, File):
            path.write_bytes(node.content(node.durable))
            lost = node.changes[node.durable :]
            undone.writes += len(lost)
            undone.bytes += sum(len(change.data) for change in lost if isinstance(change, Write))
