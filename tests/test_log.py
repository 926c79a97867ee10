import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from healthmsg import Client, Environment
from healthmsg.errors import ConnectError, ServiceUnavailableError
from healthmsg.log import log, logger
from healthmsg.pipeline.limit import _log_pause
from healthmsg.pipeline.retry import _log_retry
from tests.servers import ROUTE, Incoming, a_request, assert_tells_nothing, nothing_logged, serve

CALL = f"POST {ROUTE}"
FIELDS = ("call", "status", "attempt", "error", "wait")


@pytest.fixture
def factory_with_fields_of_its_own() -> Iterator[None]:
    """What a program may have set up: each of its log records has a `status` already."""
    plain = logging.getLogRecordFactory()

    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record = plain(*args, **kwargs)
        record.status = "the program's own"
        return record

    logging.setLogRecordFactory(factory)
    yield
    logging.setLogRecordFactory(plain)


def test_a_message_is_made_of_fields_which_the_log_record_has_too(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.WARNING, "%(call)s took %(wait).1f s", call="GET me", wait=2.0, status=None)

    (record,) = caplog.records
    assert record.getMessage() == "GET me took 2.0 s"
    assert (vars(record)["call"], vars(record)["wait"], vars(record)["status"]) == ("GET me", 2.0, None)
    assert (record.name, record.levelno) == ("healthmsg", logging.WARNING)
    assert record.pathname == __file__


def test_what_is_not_wanted_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="healthmsg")

    log(logging.WARNING, "%(call)s", call="GET me")

    assert not caplog.records


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
def test_what_a_filter_of_the_program_raises_changes_nothing(kind: type[BaseException]) -> None:
    def fail(_: logging.LogRecord) -> bool:
        raise kind

    logger.addFilter(fail)
    try:
        log(logging.WARNING, "sending goes on")
    finally:
        logger.removeFilter(fail)


def test_a_message_without_fields_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.WARNING, "sending goes on")

    assert caplog.messages == ["sending goes on"]


@pytest.mark.usefixtures("factory_with_fields_of_its_own")
def test_a_field_that_the_program_sets_itself_stays_the_programs(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.WARNING, "%(call)s -> %(status)d", call="GET me", status=200)

    (record,) = caplog.records
    assert record.getMessage() == "GET me -> 200"
    assert vars(record)["status"] == "the program's own"


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConnectError(CALL, "no"), None), (ServiceUnavailableError(CALL, 503, server_message="canary"), 503)],
)
def test_a_retry_is_logged_at_info(
    error: ConnectError | ServiceUnavailableError, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    request = a_request()
    request.current.number = 2

    with nothing_logged(caplog):
        _log_retry(request, error, 1.25)

    (record,) = caplog.records
    name = type(error).__name__
    assert record.levelno == logging.INFO
    assert record.getMessage() == f"{CALL} failed with {name} in attempt 2; again in 1.250 s"
    fields = ("call", "status", "attempt", "error", "wait")
    assert tuple(vars(record)[field] for field in fields) == (CALL, status, 2, name, 1.25)
    assert_tells_nothing(repr(vars(record)))


def test_a_pause_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with nothing_logged(caplog):
        _log_pause(a_request(), 429, 3.0)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{CALL} -> 429, attempt 1; no call leaves for 3.000 s"
    assert (vars(record)["call"], vars(record)["status"], vars(record)["wait"]) == (CALL, 429, 3.0)


@pytest.mark.looptime(idle_step=0.1, idle_timeout=3)
@pytest.mark.usefixtures("ticking_clock")
async def test_a_client_tells_of_each_repetition_and_once_of_a_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both_are_under_way = asyncio.Barrier(2)

    async def handler(incoming: Incoming) -> None:
        await incoming.request()
        await both_are_under_way.wait()
        await incoming.answer(429, b"canary", "Retry-After: 7")
        await incoming.request()
        await incoming.answer(200, b'{"id": "u1"}')

    caplog.set_level(logging.INFO, logger="healthmsg")
    async with (
        serve(handler) as server,
        Client("t", environment=Environment("here", server.url)) as client,
    ):
        await asyncio.gather(client.me.get(), client.me.get())

    reported = [(record.levelno, *(vars(record).get(name) for name in FIELDS)) for record in caplog.records]
    seven_seconds = pytest.approx(7, abs=0.01)
    assert sorted(reported, key=str) == [
        (logging.INFO, "GET me", 429, 1, "RateLimitedError", seven_seconds),
        (logging.INFO, "GET me", 429, 1, "RateLimitedError", seven_seconds),
        (logging.WARNING, "GET me", 429, 1, None, seven_seconds),
    ]
    assert "canary" not in caplog.text


SCRIPT = """
import logging
{setting_up}
from healthmsg import Client
logging.getLogger("healthmsg").debug("a try")
logging.getLogger("healthmsg").info("a repetition")
logging.getLogger("healthmsg").warning("a pause")
logging.getLogger("other").info("another's")
print(logging.root.handlers, logging.root.level)
"""


def logged(level: str, setting_up: str = "") -> tuple[list[str], str]:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", SCRIPT.format(setting_up=setting_up)],
        env={**os.environ, "HEALTHMSG_LOG": level},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.rpartition(": ")[2] for line in done.stderr.splitlines()], done.stdout.strip()


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("debug", ["a try", "a repetition", "a pause"]),
        (" INFO ", ["a repetition", "a pause"]),
        ("", ["a pause"]),
    ],
)
def test_a_variable_makes_the_log_be_written(level: str, lines: list[str]) -> None:
    assert logged(level) == (lines, "[] 30")


def test_another_level_is_refused_in_the_log() -> None:
    lines, _ = logged("loud")

    assert lines == ["it must be debug or info", "a pause"]


def test_a_program_that_logs_by_itself_gets_each_record_once() -> None:
    lines, _ = logged("debug", "logging.basicConfig(level='DEBUG')")

    assert [line.rpartition(":")[2] for line in lines if "other" not in line][-3:] == [
        "a try",
        "a repetition",
        "a pause",
    ]
    assert len([line for line in lines if "a try" in line]) == 1


@pytest.mark.parametrize(
    "setting_up",
    [
        "logging.getLogger('healthmsg').addHandler(logging.StreamHandler())",
        "logging.basicConfig(level='DEBUG'); logging.getLogger('healthmsg').propagate = False",
    ],
)
def test_a_record_is_written_once_whatever_handlers_a_program_has(setting_up: str) -> None:
    lines = [line.rpartition(":")[2] for line in logged("debug", setting_up)[0] if "other" not in line]

    assert lines == ["a try", "a repetition", "a pause"]
