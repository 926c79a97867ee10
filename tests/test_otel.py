"""The spans and measurements that OpenTelemetry's SDK gets of calls to the sandbox."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from healthmsg import (
    CallRecord,
    Client,
    ConnectError,
    Environment,
    NotFoundError,
    Outgoing,
    Retries,
)
from healthmsg.otel import OpenTelemetryHook
from healthmsg.sandbox import AnswerStatus, CutBefore, Delay, Sandbox

MESSAGES = "POST /conversations/{id}/messages"


class Telemetry:
    """What a program with OpenTelemetry has, all of it in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._measurements = InMemoryMetricReader()
        self._meters = MeterProvider([self._measurements])
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer: Tracer = tracers.get_tracer("the program's own")
        self.hook = OpenTelemetryHook(tracers, self._meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those of the calls, in the order in which they ended."""
        return [span for span in self._spans.get_finished_spans() if span.kind is SpanKind.CLIENT]

    def measured(self, name: str) -> list[HistogramDataPoint]:
        data = self._measurements.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        (metric,) = (metric for metric in scope.metrics if metric.name == name)
        assert metric.unit == "s"
        points = [point for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]
        assert len(points) == len(metric.data.data_points)
        return points


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def watched(sandbox: Sandbox, telemetry: Telemetry) -> AsyncIterator[Client]:
    token = sandbox.issue_token()
    async with Client(token, environment=sandbox.environment, on_call=telemetry.hook) as client:
        yield client


def attributes_of(span: ReadableSpan) -> dict[str, object]:
    """Return what a span says, but for how long it waited, which differs."""
    attributes: dict[str, object] = dict(span.attributes or {})
    waited = attributes.pop("healthmsg.limit.wait")
    assert isinstance(waited, float)
    return attributes


def server(sandbox: Sandbox) -> Mapping[str, object]:
    url = urlsplit(sandbox.environment.api_url)
    return {"server.address": url.hostname, "server.port": url.port}


async def test_a_call_is_a_client_span_by_the_conventions(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    await watched.conversations(sandbox.add_conversation()).send("Hallo")

    (span,) = telemetry.spans
    assert span.name == MESSAGES
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes_of(span) == {
        "http.request.method": "POST",
        "url.template": "/conversations/{id}/messages",
        "http.response.status_code": 201,
        **server(sandbox),
    }
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "healthmsg"
    assert str(span.instrumentation_scope.schema_url).startswith("https://opentelemetry.io/schemas/1.")


async def test_a_span_lasts_as_long_as_its_try(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    sandbox.faults.add(kind=Delay(0.05))

    began = time.time_ns()
    await watched.me.get()
    ended = time.time_ns()

    (span,) = telemetry.spans
    assert span.start_time is not None
    assert span.end_time is not None
    assert began - 5_000_000 <= span.start_time <= span.end_time - 50_000_000
    assert span.end_time <= ended


@pytest.mark.parametrize(
    ("record", "error_type"),
    [
        (CallRecord("GET me", 404, 0.1, 0.0, 1, "NotFoundError"), "404"),
        (CallRecord("GET me", 302, 0.1, 0.0, 1, "StatusError"), "StatusError"),
        (CallRecord("GET me", None, 0.1, 0.0, 1, "CallTimeoutError"), "CallTimeoutError"),
        (CallRecord("GET me", None, 0.1, 0.0, 1, "CancelledError"), "CancelledError"),
    ],
)
def test_a_try_that_failed_says_how(record: CallRecord, error_type: str, telemetry: Telemetry) -> None:
    telemetry.hook(record)

    (span,) = telemetry.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert attributes_of(span)["error.type"] == error_type
    assert attributes_of(span).get("http.response.status_code") == record.status
    (point,) = telemetry.measured("http.client.request.duration")
    assert (point.attributes or {})["error.type"] == error_type


async def test_each_try_is_a_span_of_its_own_and_says_which(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    sandbox.faults.add(kind=AnswerStatus(503, b"", {"Retry-After": "0"}))
    sandbox.faults.add(kind=AnswerStatus(503, b"", {"Retry-After": "0"}))

    await watched.me.get()

    reported = [attributes_of(span) for span in telemetry.spans]
    assert [each["http.response.status_code"] for each in reported] == [503, 503, 200]
    assert [each.get("http.request.resend_count") for each in reported] == [None, 1, 2]


async def test_what_has_no_route_is_named_by_its_method(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    await watched.request("GET", f"users/{sandbox.user_id}")

    (span,) = telemetry.spans
    assert span.name == "GET"
    assert "url.template" not in attributes_of(span)
    assert sandbox.user_id not in span.to_json()


async def test_the_parent_is_the_callers_span(watched: Client, telemetry: Telemetry) -> None:
    with telemetry.tracer.start_as_current_span("the caller's") as parent:
        await watched.me.get()
        await asyncio.create_task(watched.me.get())
    await watched.me.get()

    parents = [span.parent and span.parent.span_id for span in telemetry.spans]
    own = parent.get_span_context().span_id
    assert parents == [own, own, None]


async def test_callers_side_by_side_have_their_own_spans(watched: Client, telemetry: Telemetry) -> None:
    async def caller(number: int) -> int:
        with telemetry.tracer.start_as_current_span(f"caller {number}") as span:
            await watched.me.get()
            return span.get_span_context().span_id

    ids = await asyncio.gather(*(caller(number) for number in range(4)))

    assert sorted(span.parent.span_id for span in telemetry.spans if span.parent) == sorted(ids)


async def test_what_is_read_ahead_belongs_to_the_reader(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    for _ in range(3):
        sandbox.add_conversation()

    with telemetry.tracer.start_as_current_span("the reader's") as parent:
        chats = [chat async for chat in watched.conversations.list(page_size=1)]

    assert len(telemetry.spans) > len(chats) >= 3
    assert {span.parent and span.parent.span_id for span in telemetry.spans} == {
        parent.get_span_context().span_id
    }


async def test_what_is_sent_in_bulk_belongs_to_its_caller(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    messages = [Outgoing(f"conversations/{sandbox.add_conversation()}", "Hallo") for _ in range(3)]

    with telemetry.tracer.start_as_current_span("the campaign's") as parent:
        results = [result async for result in watched.send_many(messages)]

    assert len(telemetry.spans) == len(results) == 3
    assert {span.parent and span.parent.span_id for span in telemetry.spans} == {
        parent.get_span_context().span_id
    }


async def test_durations_are_measured_by_the_conventions(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    for _ in range(3):
        await watched.me.get()
    with pytest.raises(NotFoundError):
        await watched.conversations.get("nowhere")

    points = telemetry.measured("http.client.request.duration")
    assert sorted((point.count, point.attributes) for point in points if point.attributes) == [
        (
            1,
            {
                "http.request.method": "GET",
                "url.template": "/conversations/{id}",
                "http.response.status_code": 404,
                "error.type": "404",
                **server(sandbox),
            },
        ),
        (
            3,
            {
                "http.request.method": "GET",
                "url.template": "/me",
                "http.response.status_code": 200,
                **server(sandbox),
            },
        ),
    ]
    bounds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    assert {tuple(point.explicit_bounds) for point in points} == {tuple(bounds)}
    spans = [span for span in telemetry.spans if span.name == "GET /me"]
    lasted = [((span.end_time or 0) - (span.start_time or 0)) / 1e9 for span in spans]
    assert max(point.sum for point in points if point.count == 3) == pytest.approx(sum(lasted), abs=1e-6)


async def test_the_wait_for_the_limit_is_measured(
    watched: Client, sandbox: Sandbox, telemetry: Telemetry
) -> None:
    await asyncio.gather(*(watched.me.get() for _ in range(4)))

    (point,) = telemetry.measured("healthmsg.limit.wait")
    assert point.count == 4
    assert point.sum == pytest.approx(watched.stats().waited)
    assert 0.1 < point.sum < 1
    assert point.attributes == {"http.request.method": "GET", "url.template": "/me", **server(sandbox)}
    assert (
        max(float(str((span.attributes or {})["healthmsg.limit.wait"])) for span in telemetry.spans)
        == point.max
    )


def test_a_file_on_another_host_does_not_tell_where(telemetry: Telemetry) -> None:
    telemetry.hook(CallRecord("GET conversations/{id}/pdf (the file)", 200, 0.1, 0.0, 1, None))

    (span,) = telemetry.spans
    assert span.name == "GET"
    assert attributes_of(span) == {"http.request.method": "GET", "http.response.status_code": 200}


async def test_nothing_private_is_exported(watched: Client, sandbox: Sandbox, telemetry: Telemetry) -> None:
    chat = sandbox.add_conversation(aux_id="canary 7")
    sandbox.faults.add(kind=CutBefore(), method="GET")

    await watched.auxiliary.conversations("canary 7").send("canary text")
    await watched.auxiliary.conversations("canary 7").messages().first_page()
    with pytest.raises(NotFoundError):
        await watched.users.get("canary-user")

    reported = " ".join(span.to_json() for span in telemetry.spans)
    reported += repr(
        telemetry.measured("http.client.request.duration") + telemetry.measured("healthmsg.limit.wait")
    )
    assert len(telemetry.spans) == 4
    assert "canary" not in reported
    assert chat not in reported


async def test_a_call_goes_on_where_there_is_no_sdk(sandbox: Sandbox) -> None:
    token = sandbox.issue_token()
    async with Client(token, environment=sandbox.environment, on_call=OpenTelemetryHook()) as client:
        assert (await client.me.get()).id == sandbox.user_id


async def test_a_port_that_refuses_is_a_failed_span(telemetry: Telemetry, unused_tcp_port: int) -> None:
    here = Environment("here", f"http://127.0.0.1:{unused_tcp_port}")
    async with Client("t", environment=here, retries=Retries.none(), on_call=telemetry.hook) as client:
        with pytest.raises(ConnectError):
            await client.me.get()

    (span,) = telemetry.spans
    assert attributes_of(span) == {
        "http.request.method": "GET",
        "url.template": "/me",
        "error.type": "ConnectError",
        "server.address": "127.0.0.1",
        "server.port": unused_tcp_port,
    }


@pytest.mark.slow
def test_a_client_without_the_hook_does_not_load_opentelemetry() -> None:
    script = """
import sys
from healthmsg import *
Client("t", environment=Environment.ALTERDESK)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
