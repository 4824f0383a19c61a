"""An object store behind one URL: any S3, or a directory. Built on obstore.

Every failure is raised as `StoreUnavailable` (it may work later) or `StoreUnusable` (the
configuration must change); a name that does not exist is `FileNotFoundError`.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, S3Store

from postjournal.config.settings import StoreSettings
from postjournal.core.errors import StoreUnavailable, StoreUnusable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PART_BYTES = 8 * 1024 * 1024
"""Bytes per request. S3 allows 10,000 parts per object (80 GB), each of at least 5 MiB."""

PARTS_AT_ONCE = 2
"""An upload therefore holds at most three parts in memory: two in transit, one being filled."""

BACKGROUND_TIMEOUT_S, INTERACTIVE_TIMEOUT_S = 120.0, 8.0
"""How long a failing request is repeated: for background work, and while a caller waits for it."""

FORBIDDEN = re.compile(r"\b(401 Unauthorized|403 Forbidden)\b|Permission denied|Read-only file")
ENDPOINT = re.compile(r"https?://[A-Za-z0-9._-]+(:\d+)?/?")
NO_BUCKET = "<Code>NoSuchBucket</Code>"
S3_ERROR = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)

UNFINISHED = re.compile(r".*#\d+")
"""The name that a `LocalStore` gives to a file while it writes it; it does not list these."""


@dataclass(frozen=True)
class StoredObject:
    """`name`: below the store's URL; `size` in bytes; `modified_ms`: since the Unix epoch."""

    name: str
    size: int
    modified_ms: int


class ObjectStore:
    """Safe to use from many threads. Make it after any fork: it has threads of its own."""

    def __init__(self, settings: StoreSettings, timeout_s: float = BACKGROUND_TIMEOUT_S) -> None:
        """Sends no request yet. `timeout_s`: how long a failing request is repeated, seconds.

        Raises `StoreUnusable` when the URL is invalid.
        """
        self.url = settings.url
        parts = urlsplit(settings.url)
        is_directory = parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc
        self._directory = Path(unquote(parts.path)) if is_directory else None
        self._opened: LocalStore | S3Store | None = None
        if parts.scheme == "s3" and parts.netloc:
            with _translated(self.url):
                self._opened = _s3(settings, timeout_s)
        elif not is_directory:
            raise StoreUnusable(
                f"POSTJOURNAL_SNAPSHOT_URL={settings.url}: use s3://BUCKET/PREFIX"
                "?endpoint=http://HOST:PORT&region=REGION or file:///DIRECTORY"
            )

    @property
    def _store(self) -> LocalStore | S3Store:
        """A directory is made when needed: a disk may be unavailable, as a server may."""
        if self._opened is None:
            self._opened = LocalStore(self._directory, mkdir=True)
        return self._opened

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write or replace an object, whole or not at all, in parts and in bounded memory.

        An exception of `chunks` is passed on (an OSError as the store's own); then nothing is
        written.
        """
        with _translated(self.url):
            obstore.put(
                self._store, name, chunks, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )

    def create(self, name: str, data: bytes) -> bool:
        """Write a small object unless one of that name exists; returns whether it was written."""
        with _translated(self.url):
            try:
                obstore.put(self._store, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # A retry of a request that was executed finds its own object.
                return bytes(obstore.get(self._store, name).bytes()) == data
            return True

    def get(self, name: str) -> bytes:
        """The bytes of a small object."""
        with _translated(self.url):
            return bytes(obstore.get(self._store, name).bytes())

    def read(self, name: str, size: int) -> Iterator[bytes]:
        """The bytes of an object of `size` bytes, in parts; of a shorter object fewer bytes."""
        for start in range(0, size, PART_BYTES):
            end = min(start + PART_BYTES, size)
            with _translated(self.url):
                yield bytes(obstore.get_range(self._store, name, start=start, end=end))

    def list(self, folder: str) -> list[StoredObject]:
        """Every object in `folder`, sorted by name."""
        found: list[StoredObject] = []
        with _translated(self.url):
            for batch in obstore.list(self._store, f"{folder}/"):
                found += [
                    StoredObject(file["path"], file["size"], _ms(file["last_modified"]))
                    for file in batch
                ]
        return sorted(found, key=lambda stored: stored.name)

    def delete(self, name: str) -> None:
        """Delete an object; one that does not exist is no error."""
        with _translated(self.url), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def clean_unfinished(self, folder: str, before_ms: int) -> int:
        """Delete the partial files that writers which died have left in `folder`; returns how many.

        `before_ms`: only those last modified before it, ms since the Unix epoch. Does nothing for
        S3, which hides unfinished uploads and removes them by its lifecycle rules (MinIO does so
        after a day without any).
        """
        if self._directory is None:
            return 0
        old = [
            path
            for path in (self._directory / folder).glob("*#*")
            if UNFINISHED.fullmatch(path.name) and path.stat().st_mtime * 1000 < before_ms
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def check(self) -> None:
        """Try every operation that is needed. Raises `StoreUnusable` or `StoreUnavailable`."""
        name = f"check/{uuid.uuid4().hex}"
        self.list("check")
        if not self.create(name, b"1"):
            raise StoreUnusable(f"{self.url}: the new object {name} exists already")
        try:
            with _translated(self.url):
                obstore.put(self._store, name, b"2", mode="create", use_multipart=False)
            raise StoreUnusable(
                f"{self.url} ignores If-None-Match: two replicas could overwrite each other's "
                "snapshots. Use a store with conditional writes, such as MinIO or Amazon S3"
            )
        except AlreadyExistsError:
            if self.get(name) != b"1":
                raise StoreUnusable(f"{self.url} returns other bytes than were written") from None
        finally:
            self.delete(name)


def _s3(settings: StoreSettings, timeout_s: float) -> S3Store:
    """Without keys in the settings obstore looks where every S3 client does: AWS_…, the host."""
    parts = urlsplit(settings.url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = query.keys() - {"endpoint", "region"}
    if unknown:
        raise StoreUnusable(
            f"POSTJOURNAL_SNAPSHOT_URL: unknown option {min(unknown)}; use endpoint and region"
        )
    endpoint = query.get("endpoint")
    if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
        raise StoreUnusable(
            f"POSTJOURNAL_SNAPSHOT_URL: endpoint={endpoint}: use http://HOST:PORT or https://HOST"
        )
    client: ClientConfig = {
        "allow_http": bool(endpoint and endpoint.startswith("http:")),
        "connect_timeout": "3s",
        # For one part: a store slower than 0.3 MB/s counts as unavailable.
        "timeout": "30s",
    }
    retry: RetryConfig = {
        "max_retries": 1_000,  # the timeout ends them
        "retry_timeout": timedelta(seconds=timeout_s),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=3),
        },
    }
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        endpoint=endpoint,
        region=query.get("region", "us-east-1"),
        access_key_id=settings.key_id,
        secret_access_key=settings.secret,
        virtual_hosted_style_request=endpoint is None,
        client_options=client,
        retry_config=retry,
    )


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except AlreadyExistsError:
        raise
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreUnusable(f"{url}: not authorized: {_brief(error)}") from error
    except FileNotFoundError as error:
        if NO_BUCKET in str(error):
            raise _no_bucket(url) from error
        raise
    except (BaseError, OSError, ValueError) as error:
        raise _by_text(url, error) from error


def _by_text(url: str, error: Exception) -> StoreUnusable | StoreUnavailable:
    """Errors for which obstore has no class are distinguished by the store's text."""
    if NO_BUCKET in str(error):
        return _no_bucket(url)
    if FORBIDDEN.search(str(error)):
        return StoreUnusable(f"{url}: not authorized: {_brief(error)}")
    return StoreUnavailable(f"{url}: {_brief(error)}")


def _no_bucket(url: str) -> StoreUnusable:
    return StoreUnusable(f"{url}: there is no bucket {urlsplit(url).netloc}: create it")


def _brief(error: Exception) -> str:
    """One line; of an S3 answer only code and message."""
    answer = S3_ERROR.search(str(error))
    if answer is not None:
        return f"{answer[1]}: {answer[2]}"
    line = str(error).partition("\n")[0]
    _, has_no_answer, why = line.partition("HTTP error: ")
    return f"no answer ({why})" if has_no_answer else line


def _ms(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1000)
