import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from healthmsg import Client, Environment
from healthmsg.errors import ConnectError, NotFoundError
from healthmsg.pipeline.record import CallRecord, Counters, RecordStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from tests.servers import (
    CANARIES,
    PATIENT,
    ROUTE,
    a_request,
    answering,
    assert_tells_nothing,
    nothing_logged,
    response,
    serve,
)

CALL = f"POST {ROUTE}"


async def answer(_: Request) -> Response:
    return response(201)


async def refuse(request: Request) -> Response:
    raise NotFoundError(request.call, 404, server_message=" ".join(CANARIES))


async def break_down(_: Request) -> Response:
    raise ZeroDivisionError(" ".join(CANARIES))


async def recorded(proceed: object) -> list[CallRecord]:
    records: list[CallRecord] = []
    request = a_request()
    request.current.waited = 0.25
    await asyncio.gather(RecordStep(records.append, Counters())(request, proceed), return_exceptions=True)  # type: ignore[arg-type]
    return records


@pytest.mark.parametrize(
    ("proceed", "status", "error"),
    [
        (answer, 201, None),
        (refuse, 404, "NotFoundError"),
        (break_down, None, "ZeroDivisionError"),
    ],
)
async def test_a_try_leaves_one_record_with_nothing_private(
    proceed: object, status: int | None, error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with nothing_logged(caplog):
        (record,) = await recorded(proceed)
    assert record == CallRecord(CALL, status, record.duration, 0.25, 1, error)
    assert 0 <= record.duration < 1
    assert_tells_nothing(repr(record))
    (line,) = caplog.messages
    assert line.startswith(f"{CALL} -> {status or error} in ")


async def test_the_gateways_transaction_is_recorded_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse_by_gateway(request: Request) -> Response:
        raise NotFoundError(request.call, 404, transaction_id="Id-7")

    with caplog.at_level(logging.DEBUG, "healthmsg"):
        (record,) = await recorded(refuse_by_gateway)

    assert record.transaction_id == "Id-7"
    (line,) = caplog.records
    assert line.getMessage().endswith("attempt 1, transaction Id-7")
    assert vars(line)["transaction_id"] == "Id-7"


@pytest.mark.looptime(noop_cycles=0)
async def test_the_duration_is_the_tries_own() -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(3)
        return response()

    (record,) = await recorded(slow)
    assert record.duration == pytest.approx(3)


@pytest.mark.looptime(noop_cycles=0)
async def test_a_cancelled_try_is_recorded_and_stays_cancelled() -> None:
    records: list[CallRecord] = []
    step = RecordStep(records.append, Counters())
    call = asyncio.create_task(step(a_request(), lambda _: asyncio.sleep(9, response())))
    await asyncio.sleep(2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (record,) = records
    assert (record.status, record.error) == (None, "CancelledError")
    assert record.duration == pytest.approx(2)


@pytest.mark.looptime(noop_cycles=0)
async def test_each_try_has_its_own_record() -> None:
    records: list[CallRecord] = []
    record_step = RecordStep(records.append, Counters())

    async def proceed(request: Request) -> Response:
        if request.current.number < 3:
            raise ConnectError(request.call, "no")
        return response()

    await RetryStep(Retries())(a_request(), lambda request: record_step(request, proceed))
    assert [(record.attempt, record.status, record.error) for record in records] == [
        (1, None, "ConnectError"),
        (2, None, "ConnectError"),
        (3, 200, None),
    ]


@pytest.mark.parametrize(
    ("call", "method", "route"),
    [
        ("GET me", "GET", "me"),
        (f"POST {ROUTE}", "POST", ROUTE),
        ("PUT (a path of your own)", "PUT", None),
        ("POST oauth token", "POST", None),
        ("GET conversations/{id}/pdf (the file)", "GET", None),
    ],
)
def test_a_record_tells_method_and_route_apart(call: str, method: str, route: str | None) -> None:
    record = CallRecord(call, 200, 0.1, 0.0, 1, None)
    assert (record.method, record.route) == (method, route)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://api.example/v1", "api.example", 443),
        ("http://127.0.0.1:8080/v1", "127.0.0.1", 8080),
        ("http://[::1]/v1", "::1", 80),
        (None, None, None),
    ],
)
async def test_a_record_tells_where_the_service_is(
    url: str | None, host: str | None, port: int | None
) -> None:
    records: list[CallRecord] = []
    await RecordStep(records.append, Counters(), url=url)(a_request(), answer)
    assert (records[0].host, records[0].port) == (host, port)


async def test_a_record_does_not_tell_the_host_that_an_answer_named() -> None:
    records: list[CallRecord] = []
    async with (
        serve(answering(200, b"content")) as elsewhere,
        serve(answering(302, b"", f"Location: {elsewhere.url}/file")) as server,
        Client("t", environment=Environment("here", server.url), on_call=records.append) as client,
    ):
        assert await client.conversations("c1").download_bytes("a1") == b"content"
        own_port = urlsplit(server.url).port

    call = "GET conversations/{id}/attachments/{attachment_id}"
    assert [(record.call, record.host, record.port) for record in records] == [
        (call, "127.0.0.1", own_port),
        (f"{call} (the file)", None, None),
    ]


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CallRecord("GET me", 200, 0.1, 0.0, 1, None).status = 500  # type: ignore[misc] # what is tested


@pytest.mark.parametrize(
    ("proceed", "status", "error"),
    [(answer, 201, None), (refuse, 404, "NotFoundError"), (break_down, None, "ZeroDivisionError")],
)
async def test_what_is_logged_of_a_try_has_its_figures_as_fields(
    proceed: object, status: int | None, error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="healthmsg")
    (record,) = await recorded(proceed)
    (logged,) = caplog.records
    assert {
        name: vars(logged)[name] for name in ("call", "status", "duration", "waited", "attempt", "error")
    } == {
        "call": CALL,
        "status": status,
        "duration": pytest.approx(record.duration, abs=0.01),
        "waited": 0.25,
        "attempt": 1,
        "error": error,
    }


@pytest.mark.parametrize("kind", [ZeroDivisionError, asyncio.CancelledError, GeneratorExit])
async def test_a_call_succeeds_though_its_hook_fails_and_only_the_kind_of_failure_is_logged(
    caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def broken(_: CallRecord) -> None:
        raise kind(PATIENT)

    with nothing_logged(caplog):
        answered = await RecordStep(broken, Counters())(a_request(), answer)
    assert answered.status == 201
    (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert logged.getMessage() == f"on_call raised {kind.__name__}"
    assert logged.exc_info is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_in_a_hook_does_so_when_the_call_has_its_answer(
    kind: type[BaseException],
) -> None:
    answers: list[Response] = []

    def end(_: CallRecord) -> None:
        raise kind

    async def program() -> None:
        answers.append(await RecordStep(end, Counters())(a_request(), answer))
        await asyncio.Event().wait()

    with pytest.raises(kind):
        asyncio.run(program())
    assert [one.status for one in answers] == [201]


async def test_a_failed_call_keeps_its_error_though_its_hook_fails() -> None:
    def broken(_: CallRecord) -> None:
        raise ZeroDivisionError

    with pytest.raises(NotFoundError) as caught:
        await RecordStep(broken, Counters())(a_request(), refuse)
    assert caught.value.__context__ is None


async def test_without_hook_and_debug_logging_nothing_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="healthmsg")
    answered = await RecordStep(None, Counters())(a_request(), answer)
    assert answered.status == 201
    assert not caplog.records
