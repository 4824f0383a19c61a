"""A command continues its request's trace, and log lines name it."""

from __future__ import annotations

import json
import logging

import pytest

from postjournal.core.errors import ConfigurationError
from services.process import JsonFormatter, configure_logging
from services.producer.tracing import trace_of
from tests.support.gateway import OPEN, make_gateway

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_command_continues_its_callers_trace_in_a_new_span() -> None:
    gateway = make_gateway()
    response = gateway.post(OPEN, traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="vendor=1")
    sent = gateway.log.headers["traceparent"].decode()
    assert sent == response.headers["traceresponse"]
    version, trace, span, flags = sent.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != SPAN
    assert gateway.log.headers["tracestate"] == b"vendor=1"


def test_commands_of_a_batch_share_the_requests_trace() -> None:
    gateway = make_gateway()
    gateway.post([OPEN], "/api/v1/commands/batch", traceparent=f"00-{TRACE}-{SPAN}-00")
    assert gateway.log.headers["traceparent"].decode().startswith(f"00-{TRACE}-")
    assert gateway.log.headers["traceparent"].endswith(b"-00")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_an_invalid_header_starts_a_new_trace(header: str | None) -> None:
    trace = trace_of(header, "vendor=1")
    assert trace.trace_id != TRACE
    assert (len(trace.trace_id), trace.state, trace.flags) == (32, None, 1)


def test_a_later_version_may_append_fields() -> None:
    assert trace_of(f"01-{TRACE}-{SPAN}-01-more", "é" * 3).trace_id == TRACE
    assert trace_of(f"01-{TRACE}-{SPAN}-01", "é").state is None


def test_json_log_lines_name_the_command_and_the_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = make_gateway()
    with caplog.at_level(logging.INFO, logger="postjournal.requests"):
        gateway.post(OPEN, traceparent=f"00-{TRACE}-{SPAN}-01")
    (record,) = [line for line in caplog.records if line.name == "postjournal.requests"]
    line = json.loads(JsonFormatter().format(record))
    assert (line["id"], line["trace_id"], line["status"]) == ("a1", TRACE, 202)
    assert line["message"] == "POST /api/v1/commands"
    assert {"time", "level", "logger", "pid", "thread"} <= line.keys()


def test_a_traceback_is_a_field_of_the_json_line() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (type(error), error, None)})
    assert "ValueError: no" in json.loads(JsonFormatter().format(record))["traceback"]


def test_an_unknown_log_format_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_LOG_FORMAT"):
        configure_logging({"POSTJOURNAL_LOG_FORMAT": "xml"})
