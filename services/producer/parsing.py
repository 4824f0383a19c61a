"""Parses requests: bytes to valid commands of the application, parameters to values. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from postjournal.cluster.topics import DEFAULT_KEY
from postjournal.core.records import MAX_ID_LENGTH, UNREADABLE
from services.parameters import WHOLE_NUMBER
from services.producer.problems import Problem

MAX_COMMAND_BYTES = 64 * 1024
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH = 10_000
MAX_BATCH_KEY_LENGTH = MAX_ID_LENGTH - len(f"-{MAX_BATCH - 1}")
"""Characters of a batch's Idempotency-Key, so that the ids derived from it are not too long."""

LINE_TYPES = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
)
"""The media types in use for newline-delimited JSON, none of which is registered."""

MAX_REPORTED_ERRORS = 100
MAX_KEY_LENGTH = 128
MAX_WAIT_S = 30

LedgerName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY_LENGTH)]

PATH_IN_MESSAGE = re.compile(r" - at `(\$.*)`$")
PRINTABLE_ASCII = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True)
class Submission:
    """A valid command: its id, and the key and the value of the record to be appended."""

    id: str
    key: bytes
    value: bytes


class Invalid(Exception):
    """The body is JSON, but not a command of this application.

    `field`: the JSON path of the error, or None; `command_id`: the body's id, or None.
    """

    def __init__(self, detail: str, field: str | None, command_id: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.field, self.id = detail, field, command_id


class CommandParser:
    """Validates commands against the application's command type, and nothing else."""

    def __init__(self, command_type: Any, new_id: Callable[[], str] | None = None) -> None:
        """`new_id`: creates ids for commands without one; UUIDs by default."""
        self._decode = msgspec.json.Decoder(command_type).decode
        self._decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._decode_ledger = msgspec.json.Decoder(LedgerName).decode
        self._decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._encode = msgspec.json.Encoder().encode
        self._new_id = new_id or (lambda: uuid.uuid4().hex)

    def command(self, body: bytes, key: str | None, ledger: str | None = None) -> Submission:
        """Parse one command.

        `key`: the Idempotency-Key header, or None; `ledger`: the query's, or None. Raises
        `Problem`: invalid-command, or malformed-request if the body is not JSON or contradicts
        `key` or `ledger`.
        """
        try:
            return self._submission(body, key, ledger)
        except Invalid as invalid:
            problem = Problem("invalid-command", invalid.detail, outcome="not_accepted")
            if invalid.field:
                problem.extras["field"] = invalid.field
            raise problem from invalid

    def batch(
        self, bodies: Iterable[bytes], key: str | None, ledger: str | None = None
    ) -> list[Submission]:
        """Parse all commands of a batch, or raise `Problem`, which lists the invalid ones.

        With `key`, the n-th command (from 0) gets the id `<key>-<n>` unless it has its own.
        """
        submissions, errors = [], []
        for index, body in enumerate(bodies):
            item_key = None if key is None else f"{key}-{index}"
            try:
                submissions.append(self._submission(body, item_key, ledger, in_batch=True))
            except Invalid as invalid:
                errors.append(_error(index, invalid))
            except Problem as problem:
                problem.detail = f"command {index}: {problem.detail}"
                raise
        if errors:
            raise _invalid_batch(errors, len(submissions))
        return submissions

    def split_array(self, body: bytes) -> list[bytes]:
        """Split a JSON array into its elements. Raises `Problem` for any other body."""
        try:
            items = _well_formed(self._decode_array, body)
        except Invalid as invalid:
            raise Problem(
                "invalid-batch", "a batch must be a JSON array", outcome="not_accepted"
            ) from invalid
        return _checked_size([bytes(item) for item in items])

    def split_lines(self, body: bytes) -> list[bytes]:
        """Split newline-delimited JSON into its lines, without empty ones. Raises `Problem`."""
        return _checked_size([line for line in body.split(b"\n") if line.strip()])

    def _submission(
        self, body: bytes, key: str | None, ledger: str | None, *, in_batch: bool = False
    ) -> Submission:
        """A batch's key is used only for the commands without an id."""
        fields = _well_formed(self._decode_object, body)
        own_id = _text(fields.get("id"))
        if "id" not in fields:
            fields["id"] = msgspec.Raw(self._encode(key or self._new_id()))
        elif key is not None and own_id != key and not in_batch:
            raise _malformed(
                f"the Idempotency-Key header {key!r} and the body's id differ; send only one"
            )
        try:
            command = _well_formed(self._decode, self._encode(fields))
            record_key = self._key(fields.get("ledger"), ledger)
        except Invalid as invalid:
            raise Invalid(invalid.detail, invalid.field, own_id) from invalid
        return Submission(command.id, record_key, self._encode(command))

    def _key(self, of_body: msgspec.Raw | None, of_query: str | None) -> bytes:
        """The key of the Kafka record; the body, the query or both may name the ledger."""
        if of_body is None:
            return ledger_key(of_query)
        try:
            named: str = _well_formed(self._decode_ledger, bytes(of_body))
        except Invalid as invalid:
            raise Invalid(invalid.detail, "$.ledger") from invalid
        if of_query not in (None, named):
            raise _malformed(
                f"the query's ledger {of_query!r} and the body's {named!r} differ; send only one"
            )
        return ledger_key(named)


def idempotency_key(header: str | None, max_length: int = MAX_ID_LENGTH) -> str | None:
    """Parse the Idempotency-Key header; the quotes of a structured string are removed.

    `max_length`: in characters. Raises `Problem` for an empty or too long value, and for one that
    is not printable ASCII.
    """
    if header is None:
        return None
    value = header.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not PRINTABLE_ASCII.fullmatch(value) or len(value) > max_length:
        raise _malformed(
            f"invalid Idempotency-Key: use 1 to {max_length} characters of printable ASCII"
        )
    return value


def ledger_name(value: str | None) -> str | None:
    """Check the query's `ledger`; None means the default ledger. Raises `Problem`."""
    if value is not None and not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise _malformed(
            f"the ledger's name has {len(value)} characters; use 1 to {MAX_KEY_LENGTH}"
        )
    return value


def ledger_key(name: str | None) -> bytes:
    """The key of the Kafka record, which selects the shard."""
    return DEFAULT_KEY if name is None else name.encode()


def min_seq(value: str | None) -> int | None:
    """Parse the sequence that a read must account for. Raises `Problem`."""
    if value is None:
        return None
    if not WHOLE_NUMBER.fullmatch(value):
        raise Problem("malformed-request", "invalid min_seq: expected a whole number from 0")
    return int(value)


def preferred_wait_s(headers: Iterable[str]) -> int | None:
    """Parse the first `wait` of the Prefer headers: seconds, at most MAX_WAIT_S, or None.

    Preferences that are not understood are ignored, as RFC 7240 requires.
    """
    for preference in ",".join(headers).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            return min(int(seconds), MAX_WAIT_S) if WHOLE_NUMBER.fullmatch(seconds) else None
    return None


def _well_formed(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Raises `Problem` when `body` is not JSON, `Invalid` when the JSON has another type."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        path = PATH_IN_MESSAGE.search(text)
        raise Invalid(text, path[1] if path else None) from error
    except UNREADABLE as error:
        raise _malformed(f"not JSON: {error}") from error


def _checked_size(bodies: list[bytes]) -> list[bytes]:
    if not bodies:
        raise Problem("invalid-batch", "the batch is empty", outcome="not_accepted")
    if len(bodies) > MAX_BATCH:
        detail = f"the batch has {len(bodies)} commands; at most {MAX_BATCH} are allowed"
        raise Problem("too-large", detail, outcome="not_accepted")
    return bodies


def _invalid_batch(errors: list[dict[str, Any]], valid: int) -> Problem:
    return Problem(
        "invalid-batch",
        f"{len(errors)} of {len(errors) + valid} commands are invalid; `errors` has the first "
        f"{min(len(errors), MAX_REPORTED_ERRORS)} of them",
        outcome="not_accepted",
        errors=errors[:MAX_REPORTED_ERRORS],
    )


def _error(index: int, invalid: Invalid) -> dict[str, Any]:
    fields = {"index": index, "id": invalid.id, "detail": invalid.detail, "field": invalid.field}
    return {name: value for name, value in fields.items() if value is not None}


def _text(raw: msgspec.Raw | None) -> str | None:
    """The id in the body; None when there is none, or it is not a string."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except UNREADABLE:  # reported, with its path, when the command is decoded
        return None


def _malformed(detail: str) -> Problem:
    return Problem("malformed-request", detail, outcome="not_accepted")
