import asyncio
import logging

import pytest
from servers import CANARIES, PATIENT, ROUTE, a_request, assert_tells_nothing, nothing_logged, response

from healthmsg.errors import ConnectError, NotFoundError
from healthmsg.pipeline.exchange import Request, Response
from healthmsg.pipeline.record import CallRecord, RecordStep
from healthmsg.pipeline.retry import Retries, RetryStep

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
    request.waited = 0.25
    await asyncio.gather(RecordStep(records.append)(request, proceed), return_exceptions=True)  # type: ignore[arg-type]
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
    step = RecordStep(records.append)
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
    record_step = RecordStep(records.append)

    async def proceed(request: Request) -> Response:
        if request.attempt < 3:
            raise ConnectError(request.call, "no")
        return response()

    await RetryStep(Retries())(a_request(), lambda request: record_step(request, proceed))
    assert [(record.attempt, record.status, record.error) for record in records] == [
        (1, None, "ConnectError"),
        (2, None, "ConnectError"),
        (3, 200, None),
    ]


async def test_a_call_succeeds_though_its_hook_fails_and_only_the_kind_of_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: CallRecord) -> None:
        raise ZeroDivisionError(PATIENT)

    with nothing_logged(caplog):
        answered = await RecordStep(broken)(a_request(), answer)
    assert answered.status == 201
    (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert logged.getMessage() == "on_call raised ZeroDivisionError"
    assert logged.exc_info is None


async def test_a_failed_call_keeps_its_error_though_its_hook_fails() -> None:
    def broken(_: CallRecord) -> None:
        raise ZeroDivisionError

    with pytest.raises(NotFoundError) as caught:
        await RecordStep(broken)(a_request(), refuse)
    assert caught.value.__context__ is None


async def test_without_hook_and_debug_logging_nothing_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="healthmsg")
    answered = await RecordStep(None)(a_request(), answer)
    assert answered.status == 201
    assert not caplog.records
