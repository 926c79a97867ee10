"""OpenTelemetry: a span and two measurements for each try, and the figures of a worker (extra `otel`)."""

import time
from typing import Final

from attrs import frozen
from opentelemetry.metrics import Histogram, MeterProvider, get_meter
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_RESEND_COUNT,
    HTTP_RESPONSE_STATUS_CODE,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.metrics.http_metrics import HTTP_CLIENT_REQUEST_DURATION
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider, get_tracer

from healthmsg.pipeline.record import CallRecord
from healthmsg.version import __version__

# Part of the conventions, but not yet of the package's stable names.
_URL_TEMPLATE: Final = "url.template"
_LIMIT_WAIT: Final = "healthmsg.limit.wait"
_OUTCOME: Final = "healthmsg.outcome"
# Seconds, as the conventions advise.
_DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# Seconds: from one interval of the limit to a long pause.
_WAITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_FIRST_ERROR_CODE: Final = 400

_Attributes = dict[str, str | int | float]


class OpenTelemetryHook:
    """Reports each try to OpenTelemetry. Use it as `Client(…, on_call=OpenTelemetryHook())`.

    Each try is a client span, a child of the caller's, named by method and route (`POST
    /conversations/{id}/messages`, below the API's URL), and counts in the histogram
    `http.client.request.duration`; both follow the semantic conventions for HTTP. How long the try had to
    wait for the limit before is the histogram `healthmsg.limit.wait`, and an attribute of that name of the
    span. All times are in seconds. Left out, because they would say which person a call is about, are the
    conventions' `url.full`, and the host of a file that an answer named.

    Without providers, the global ones are used. A span is made when its try has ended, so the service is sent
    no trace context. (Beside this, an instrumentation of aiohttp itself would record whole URLs.)
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        schema = Schemas.V1_27_0.value
        self._tracer = get_tracer("healthmsg", __version__, tracer_provider, schema)
        meter = get_meter("healthmsg", __version__, meter_provider, schema)
        self._duration: Histogram = meter.create_histogram(
            HTTP_CLIENT_REQUEST_DURATION,
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_DURATIONS,
        )
        self._wait: Histogram = meter.create_histogram(
            _LIMIT_WAIT,
            unit="s",
            description="Time that a try waited for the limit of calls a second.",
            explicit_bucket_boundaries_advisory=_WAITS,
        )

    def __call__(self, record: CallRecord) -> None:
        """Report one try, which ended just now."""
        ended = time.time_ns()
        request = _request_attributes(record)
        attributes = request | _outcome_attributes(record)
        self._duration.record(record.duration, attributes)
        self._wait.record(record.waited, request)
        span = self._tracer.start_span(
            _span_name(record),
            kind=SpanKind.CLIENT,
            attributes=attributes | _span_attributes(record),
            start_time=ended - round(record.duration * 1e9),
        )
        if ERROR_TYPE in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(ended)


@frozen
class WorkerFigures:
    """What a worker of a fleet has done since it started, and what it has before it."""

    delivered: int
    not_sent: int
    unknown: int
    """Sent, and it could not be proven whether they arrived."""
    under_way: int
    waiting: int | None = None
    """Messages of the whole journal; `None`: not known just now."""
    slots: int | None = None
    """How many of the calls of one interval this worker may make now; `None`: not known."""
    is_ready: bool = True


class WorkerMetrics:
    """Reports the figures of a worker to OpenTelemetry. `healthmsg worker` does it by itself.

    | instrument                  | kind    |                                                               |
    |-----------------------------|---------|---------------------------------------------------------------|
    | `healthmsg.messages`        | counter | by `healthmsg.outcome`: `delivered`, `not_sent` or `unknown`  |
    | `healthmsg.messages.under_way` | gauge | messages that this worker has in hand                        |
    | `healthmsg.messages.waiting` | gauge  | messages of the whole journal: the same from every worker     |
    | `healthmsg.limit.slots`     | gauge   | calls of one interval that this worker may make now           |
    | `healthmsg.worker.ready`    | gauge   | 1, or 0 while something keeps the worker from sending         |

    No attribute is about a person: the names of campaigns are none either, for they are free text.
    Without a provider, the global one is used.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = get_meter("healthmsg", __version__, meter_provider, Schemas.V1_27_0.value)
        self._messages = meter.create_counter(
            "healthmsg.messages", unit="{message}", description="Messages of which the outcome is known."
        )
        self._under_way = meter.create_gauge(
            "healthmsg.messages.under_way",
            unit="{message}",
            description="Messages that it has in hand.",
        )
        self._waiting = meter.create_gauge(
            "healthmsg.messages.waiting", unit="{message}", description="Messages that wait in the journal."
        )
        self._slots = meter.create_gauge(
            "healthmsg.limit.slots",
            unit="{call}",
            description="Calls of one interval that it may make.",
        )
        self._ready = meter.create_gauge(
            "healthmsg.worker.ready", unit="1", description="1 while a worker can send, else 0."
        )
        self._counted = dict.fromkeys(("delivered", "not_sent", "unknown"), 0)

    def report(self, figures: WorkerFigures) -> None:
        """Report the figures of this moment."""
        for outcome, before in self._counted.items():
            now: int = getattr(figures, outcome)
            if now > before:
                self._messages.add(now - before, {_OUTCOME: outcome})
                self._counted[outcome] = now
        self._under_way.set(figures.under_way)
        self._ready.set(int(figures.is_ready))
        if figures.waiting is not None:
            self._waiting.set(figures.waiting)
        if figures.slots is not None:
            self._slots.set(figures.slots)


def _request_attributes(record: CallRecord) -> _Attributes:
    attributes: _Attributes = {HTTP_REQUEST_METHOD: record.method}
    if record.route is not None:
        attributes[_URL_TEMPLATE] = f"/{record.route}"
    if record.host is not None and record.port is not None:
        attributes |= {SERVER_ADDRESS: record.host, SERVER_PORT: record.port}
    return attributes


def _outcome_attributes(record: CallRecord) -> _Attributes:
    attributes: _Attributes = {}
    if record.status is not None:
        attributes[HTTP_RESPONSE_STATUS_CODE] = record.status
    if record.error is not None:
        code_suffices = record.status is not None and record.status >= _FIRST_ERROR_CODE
        attributes[ERROR_TYPE] = str(record.status) if code_suffices else record.error
    return attributes


def _span_name(record: CallRecord) -> str:
    return record.method if record.route is None else f"{record.method} /{record.route}"


def _span_attributes(record: CallRecord) -> _Attributes:
    attributes: _Attributes = {_LIMIT_WAIT: record.waited}
    if record.attempt > 1:
        attributes[HTTP_REQUEST_RESEND_COUNT] = record.attempt - 1
    return attributes
