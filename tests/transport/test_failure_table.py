"""Every failure with every kind of call, over real sockets: what was carried out, and what the caller got."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from healthmsg import (
    CallError,
    CallTimeoutError,
    ConnectError,
    DeliveryUnknownError,
    ForbiddenError,
    NotFoundError,
    Outcome,
    RateLimitedError,
    Retries,
    Timeout,
    UnauthorizedError,
)
from healthmsg.errors import (
    BadGatewayError,
    BadRequestError,
    ConnectionLostError,
    InternalServerError,
    InvalidResponseError,
    MethodNotAllowedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StatusError,
    TokenRenewalError,
)
from tests.transport.faulty_service import (
    ALWAYS,
    CALLS,
    IDEMPOTENT,
    ONCE_DELETE,
    ONCE_POST,
    SAFE,
    TRIES,
    Call,
    Course,
    Fault,
    Script,
    answer,
    close_after_the_body,
    course_of,
    cut_the_answer,
    fail,
    fail_to_connect,
    give_token,
    in_turn,
    never_answer,
    no_token,
    refuse,
    reset_after_the_body,
    reset_at_once,
    reset_in_the_answer,
    reset_in_the_body,
    say_no_json,
    speak_no_http,
    speak_no_tls,
    stop_in_the_answer,
    stop_reading,
    unless_renewed,
)
from tests.transport.hospital import Authority

pytestmark = [
    pytest.mark.looptime,
    pytest.mark.usefixtures("ticking_clock", "nothing_reaches_the_event_loop"),
]

every_call = pytest.mark.parametrize("call", CALLS, ids=str)


def lasting(course: Course, kind: type[CallError] | None, tries: int, executed: int) -> None:
    """See that a call ended so after so many tries, and was carried out so often."""
    assert course.executed == executed
    assert [record.attempt for record in course.records] == list(range(1, tries + 1))
    if kind is None:
        assert not isinstance(course.end, Exception)
        return
    assert type(course.end) is kind
    assert isinstance(course.end, CallError)
    assert course.end.attempts == tries
    is_unknown = kind is DeliveryUnknownError
    assert course.end.outcome is (Outcome.UNKNOWN if is_unknown else Outcome.NOT_SENT)


def since_the_first_try(course: Course, cause: type[CallError]) -> None:
    error = course.end
    assert isinstance(error, DeliveryUnknownError)
    assert type(error.__cause__) is cause
    began = datetime.now(UTC) - timedelta(minutes=1)
    assert began < error.started_at <= datetime.now(UTC)


# --- what certainly did not run is tried again, whatever the call


@every_call
@pytest.mark.parametrize("how", ["refused", "no such host", "connecting takes too long"])
async def test_without_a_connection(call: Call, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_connect(monkeypatch, how)
    lasting(await course_of(call, Script(answer)), ConnectError, TRIES, executed=0)


@every_call
@pytest.mark.parametrize("how", ["refused", "no such host", "connecting takes too long"])
async def test_without_a_connection_at_first(call: Call, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_connect(monkeypatch, how, times=1)
    lasting(await course_of(call, Script(answer)), None, 2, executed=1)


@every_call
async def test_without_tls(call: Call) -> None:
    lasting(await course_of(call, Script(speak_no_tls), scheme="https"), ConnectError, TRIES, executed=0)


@every_call
async def test_with_a_certificate_that_is_not_vouched_for(call: Call, tmp_path: Path) -> None:
    tls = Authority.found(tmp_path).tls
    course = await course_of(call, Script(answer), scheme="https", tls=tls)
    lasting(course, ConnectError, TRIES, executed=0)


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
WAITS = [("", 0.0, 2.0), ("17", 17, 18), ("date", 20, 21)]


def headers_of(wait: str) -> tuple[str, ...]:
    if wait == "date":
        # With the service's own time beside it, so that what this machine's clock says does not matter.
        in_20_seconds = format_datetime(NOON + timedelta(seconds=20))
        return f"Date: {format_datetime(NOON)}", f"Retry-After: {in_20_seconds}"
    return (f"Retry-After: {wait}",) if wait else ()


@every_call
@pytest.mark.parametrize(("wait", "least", "most"), WAITS)
async def test_too_many_calls(call: Call, wait: str, least: float, most: float) -> None:
    course = await course_of(call, Script(refuse(429, *headers_of(wait))))
    lasting(course, RateLimitedError, TRIES, executed=0)
    assert all(least <= waited <= most for waited in course.waits[: 1 if wait == "date" else TRIES - 1])


@every_call
@pytest.mark.parametrize("wait", ["", "17", "date"])
async def test_too_many_calls_at_first(call: Call, wait: str) -> None:
    course = await course_of(call, Script(refuse(429, *headers_of(wait)), times=1))
    lasting(course, None, 2, executed=1)


@every_call
async def test_too_many_calls_for_too_long(call: Call) -> None:
    course = await course_of(call, Script(refuse(429, "Retry-After: 61")))
    lasting(course, RateLimitedError, 1, executed=0)
    assert isinstance(course.end, RateLimitedError)
    assert course.end.retry_after == 61


# --- a token that is not accepted


@every_call
async def test_a_401_once(call: Call) -> None:
    script = Script(unless_renewed(answer, renewal=give_token))
    lasting(await course_of(call, script, can_renew=True), None, 2, executed=1)


@every_call
async def test_a_401_once_without_retries(call: Call) -> None:
    script = Script(unless_renewed(answer, renewal=give_token))
    lasting(await course_of(call, script, can_renew=True, retries=Retries.none()), None, 2, executed=1)


@every_call
async def test_a_401_always(call: Call) -> None:
    script = Script(unless_renewed(refuse(401), renewal=give_token))
    lasting(await course_of(call, script, can_renew=True), UnauthorizedError, 2, executed=0)


@every_call
async def test_a_401_that_nothing_can_be_done_about(call: Call) -> None:
    lasting(await course_of(call, Script(refuse(401))), UnauthorizedError, 1, executed=0)


@every_call
@pytest.mark.parametrize("renewal", [no_token, never_answer, reset_after_the_body])
async def test_a_renewal_without_a_clear_answer(call: Call, renewal: Fault) -> None:
    script = Script(unless_renewed(answer, renewal=renewal))
    lasting(await course_of(call, script, can_renew=True), TokenRenewalError, TRIES, executed=0)


@every_call
async def test_a_renewal_without_a_clear_answer_at_first(call: Call) -> None:
    script = Script(unless_renewed(answer, renewal=in_turn(no_token, give_token)))
    lasting(await course_of(call, script, can_renew=True), None, 3, executed=1)


# --- what may have run


@frozen
class Unclear:
    """A failure that leaves unclear whether the call ran."""

    fault: Fault
    error: type[CallError]
    runs: bool = True
    large: bool = False

    def __str__(self) -> str:
        return getattr(self.fault, "__name__", "")


UNCLEAR = [
    pytest.param(row, id=str(row))
    for row in (
        Unclear(reset_at_once, ConnectionLostError, runs=False),
        Unclear(reset_in_the_body, ConnectionLostError, runs=False, large=True),
        Unclear(stop_reading, CallTimeoutError, runs=False, large=True),
        Unclear(reset_after_the_body, ConnectionLostError),
        Unclear(close_after_the_body, ConnectionLostError),
        Unclear(never_answer, CallTimeoutError),
        Unclear(speak_no_http, ConnectionLostError),
    )
] + [
    pytest.param(Unclear(fault(status), error, runs=fault is fail), id=f"{fault.__name__}-{status}")
    for fault in (refuse, fail)
    for status, error in (
        (500, InternalServerError),
        (502, BadGatewayError),
        (503, ServiceUnavailableError),
    )
]


@pytest.mark.parametrize("row", UNCLEAR)
@every_call
async def test_an_unclear_end(call: Call, row: Unclear) -> None:
    course = await course_of(call, Script(row.fault), large=row.large)
    tries = 1 if call in {ONCE_DELETE, ONCE_POST} else TRIES
    kind = row.error if call is SAFE else DeliveryUnknownError
    lasting(course, kind, tries, executed=tries if row.runs else 0)
    if call is not SAFE:
        since_the_first_try(course, row.error)


@pytest.mark.parametrize("row", UNCLEAR)
@pytest.mark.parametrize("call", [SAFE, IDEMPOTENT], ids=str)
async def test_an_unclear_end_at_first(call: Call, row: Unclear) -> None:
    course = await course_of(call, Script(row.fault, times=1), large=row.large)
    lasting(course, None, 2, executed=2 if row.runs else 1)


@pytest.mark.parametrize("row", UNCLEAR)
@pytest.mark.parametrize("call", [SAFE, IDEMPOTENT], ids=str)
async def test_an_unclear_end_and_then_a_refusal(call: Call, row: Unclear) -> None:
    script = Script(in_turn(row.fault, refuse(404)))
    course = await course_of(call, script, large=row.large)
    kind = NotFoundError if call is SAFE else DeliveryUnknownError
    lasting(course, kind, 2, executed=1 if row.runs else 0)
    if call is IDEMPOTENT:
        since_the_first_try(course, NotFoundError)


@every_call
@pytest.mark.parametrize("cut", [reset_after_the_body, close_after_the_body])
async def test_a_kept_alive_connection_that_breaks_when_the_call_has_run(call: Call, cut: Fault) -> None:
    course = await course_of(call, Script(in_turn(answer, cut, answer)), is_second=True)
    if call in {ONCE_DELETE, ONCE_POST}:
        lasting(course, DeliveryUnknownError, 1, executed=1)
    else:
        lasting(course, None, 2, executed=2)


@every_call
@pytest.mark.parametrize("cut", [reset_after_the_body, close_after_the_body])
async def test_a_kept_alive_connection_that_breaks_without_retries(call: Call, cut: Fault) -> None:
    script = Script(in_turn(answer, cut, answer))
    course = await course_of(call, script, is_second=True, retries=Retries.none())
    lasting(course, ConnectionLostError if call is SAFE else DeliveryUnknownError, 1, executed=1)


@every_call
@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize(("wait", "least", "most"), WAITS[1:])
async def test_a_failure_of_the_service_that_names_a_wait(
    call: Call, status: int, wait: str, least: float, most: float
) -> None:
    course = await course_of(call, Script(fail(status, *headers_of(wait)), times=1))
    if call in {ONCE_DELETE, ONCE_POST}:
        lasting(course, DeliveryUnknownError, 1, executed=1)
    else:
        lasting(course, None, 2, executed=2)
        assert least <= course.waits[0] <= most


@every_call
async def test_a_failure_of_the_service_that_names_too_long_a_wait(call: Call) -> None:
    course = await course_of(call, Script(fail(503, "Retry-After: 61")))
    lasting(course, ServiceUnavailableError if call is SAFE else DeliveryUnknownError, 1, executed=1)
    assert isinstance(course.end, CallError)
    error: Any = course.end if call is SAFE else course.end.__cause__
    assert error.retry_after == 61


@every_call
@pytest.mark.parametrize("row", UNCLEAR)
async def test_an_unclear_end_without_retries(call: Call, row: Unclear) -> None:
    course = await course_of(call, Script(row.fault), large=row.large, retries=Retries.none())
    lasting(course, row.error if call is SAFE else DeliveryUnknownError, 1, executed=1 if row.runs else 0)


# --- clear answers that are not what was hoped for


@every_call
async def test_an_answer_that_is_no_json(call: Call) -> None:
    course = await course_of(call, Script(say_no_json))
    kind = {SAFE: InvalidResponseError, ONCE_POST: DeliveryUnknownError}.get(call)
    lasting(course, kind, 1, executed=1)
    if call is ONCE_POST:
        assert isinstance(course.end, DeliveryUnknownError)
        assert course.end.status == 200


CUTS = pytest.mark.parametrize(
    ("cut", "kind"),
    [
        (reset_in_the_answer, ConnectionLostError),
        (cut_the_answer, ConnectionLostError),
        (stop_in_the_answer, CallTimeoutError),
    ],
)
EITHER_TIMEOUT = pytest.mark.parametrize("limits", [Timeout(), Timeout(read=10_000)], ids=["read", "total"])


@every_call
@EITHER_TIMEOUT
@CUTS
async def test_a_good_answer_that_is_cut(
    call: Call, cut: Callable[..., Fault], kind: type[CallError], limits: Timeout
) -> None:
    course = await course_of(call, Script(cut(200)), timeout=limits)
    if call is SAFE:
        lasting(course, kind, TRIES, executed=TRIES)
    elif call is ONCE_POST:
        lasting(course, DeliveryUnknownError, 1, executed=1)
        assert isinstance(course.end, DeliveryUnknownError)
        assert course.end.status == 200
        assert type(course.end.__cause__) is kind
    else:
        lasting(course, None, 1, executed=1)


@EITHER_TIMEOUT
@CUTS
async def test_a_good_answer_that_is_cut_at_first(
    cut: Callable[..., Fault], kind: type[CallError], limits: Timeout
) -> None:
    lasting(await course_of(SAFE, Script(cut(200), times=1), timeout=limits), None, 2, executed=2)


@every_call
@EITHER_TIMEOUT
@CUTS
@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (401, UnauthorizedError)])
async def test_a_refusal_that_is_cut(
    call: Call,
    cut: Callable[..., Fault],
    kind: type[CallError],
    *,
    status: int,
    error: type[CallError],
    limits: Timeout,
) -> None:
    lasting(await course_of(call, Script(cut(status, runs=False)), timeout=limits), error, 1, executed=0)


@every_call
@CUTS
async def test_a_429_that_is_cut(call: Call, cut: Callable[..., Fault], kind: type[CallError]) -> None:
    script = Script(cut(429, "Retry-After: 17", runs=False), times=1)
    course = await course_of(call, script)
    lasting(course, None, 2, executed=1)
    assert 17 <= course.waits[0] <= 18


@every_call
@CUTS
async def test_a_failure_of_the_service_that_is_cut(
    call: Call, cut: Callable[..., Fault], kind: type[CallError]
) -> None:
    course = await course_of(call, Script(cut(503)))
    tries = 1 if call in {ONCE_DELETE, ONCE_POST} else TRIES
    lasting(course, ServiceUnavailableError if call is SAFE else DeliveryUnknownError, tries, executed=tries)
    if call is not SAFE:
        since_the_first_try(course, ServiceUnavailableError)


@every_call
async def test_an_unexpected_redirect(call: Call) -> None:
    course = await course_of(call, Script(fail(302, "Location: /elsewhere")))
    lasting(course, StatusError if call is SAFE else DeliveryUnknownError, 1, executed=1)


@every_call
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, MethodNotAllowedError),
        (412, PreconditionFailedError),
        (418, StatusError),
    ],
)
async def test_a_refusal(call: Call, status: int, kind: type[CallError]) -> None:
    lasting(await course_of(call, Script(refuse(status), times=ALWAYS)), kind, 1, executed=0)
