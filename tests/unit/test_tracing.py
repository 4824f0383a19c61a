"""The trace that a command takes with it, and logs that name it."""

from __future__ import annotations

import json
import logging

import pytest

from postjournal.core.errors import ConfigurationError
from services.process import JsonFormatter, configure_logging
from services.producer.tracing import trace_of
from tests.support.gateway import OPEN, make_gateway

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_command_goes_on_with_its_callers_trace_in_a_span_of_its_own() -> None:
    world = make_gateway()
    response = world.post(OPEN, traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="vendor=1")
    told = world.log.headers["traceparent"].decode()
    assert told == response.headers["traceresponse"]
    version, trace, span, flags = told.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != SPAN
    assert world.log.headers["tracestate"] == b"vendor=1"


def test_commands_of_a_batch_share_the_requests_trace() -> None:
    world = make_gateway()
    world.post([OPEN], "/api/v1/commands/batch", traceparent=f"00-{TRACE}-{SPAN}-00")
    assert world.log.headers["traceparent"].decode().startswith(f"00-{TRACE}-")
    assert world.log.headers["traceparent"].endswith(b"-00")


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
def test_a_header_that_is_none_begins_a_trace(header: str | None) -> None:
    trace = trace_of(header, "vendor=1")
    assert trace.trace_id != TRACE
    assert (len(trace.trace_id), trace.state, trace.flags) == (32, None, 1)


def test_a_later_version_may_have_more_at_its_end() -> None:
    assert trace_of(f"01-{TRACE}-{SPAN}-01-more", "é" * 3).trace_id == TRACE
    assert trace_of(f"01-{TRACE}-{SPAN}-01", "é").state is None


def test_lines_for_programs_are_json_and_name_command_and_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = make_gateway()
    with caplog.at_level(logging.INFO, logger="postjournal.requests"):
        world.post(OPEN, traceparent=f"00-{TRACE}-{SPAN}-01")
    (record,) = [each for each in caplog.records if each.name == "postjournal.requests"]
    line = json.loads(JsonFormatter().format(record))
    assert (line["id"], line["trace_id"], line["status"]) == ("a1", TRACE, 202)
    assert line["message"] == "POST /api/v1/commands"
    assert {"time", "level", "logger", "pid", "thread"} <= line.keys()


def test_a_traceback_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (type(error), error, None)})
    assert "ValueError: no" in json.loads(JsonFormatter().format(record))["traceback"]


def test_an_unknown_log_format_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="POSTJOURNAL_LOG_FORMAT"):
        configure_logging({"POSTJOURNAL_LOG_FORMAT": "xml"})
