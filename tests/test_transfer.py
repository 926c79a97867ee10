"""How far transfers are, as it is reported to a program."""

import asyncio
import logging
from typing import Any, NoReturn

import pytest

from healthmsg.errors import InvalidInputError
from healthmsg.transfer import Meter
from healthmsg.validation import check_progress

Reports = list[tuple[int, int | None]]


def metered() -> tuple[Meter, Reports]:
    reported: Reports = []
    return Meter(lambda done, total: reported.append((done, total))), reported


@pytest.mark.parametrize("progress", [7, "print", [], object()])
def test_what_cannot_be_called_is_refused(progress: Any) -> None:
    with pytest.raises(InvalidInputError):
        check_progress(progress)
    with pytest.raises(InvalidInputError):
        Meter(progress)


def test_a_coroutine_function_is_refused_as_it_would_not_be_awaited() -> None:
    async def progress(done: int, total: int | None) -> None: ...

    with pytest.raises(InvalidInputError):
        Meter(progress)


async def test_transfers_that_begin_together_are_reported_together() -> None:
    meter, reported = metered()

    meter.begin_all([5, 7])

    assert reported == [(0, 12)]


@pytest.mark.looptime
async def test_it_tells_at_most_ten_times_a_second_and_in_the_end() -> None:
    meter, reported = metered()
    transfer = meter.begin(1000)

    for _ in range(1000):
        await asyncio.sleep(0.001)
        transfer.advance(1)
    transfer.finish()
    meter.finish()

    assert 10 <= len(reported) <= 12
    assert reported[-1] == (1000, 1000)
    assert reported == sorted(reported)


async def test_the_last_word_is_said_however_soon_it_comes_and_once() -> None:
    meter, reported = metered()
    transfer = meter.begin(3)

    transfer.advance(3)
    meter.finish()
    meter.finish()

    assert reported == [(0, 3), (3, 3)]


async def test_of_several_transfers_only_the_end_of_the_last_is_reported_at_once() -> None:
    meter, reported = metered()
    first, second = meter.begin_all([1, 1])

    for transfer in (first, second):
        transfer.advance(1)
        transfer.finish()

    assert reported == [(0, 2), (2, 2)]


async def test_a_total_is_unknown_as_long_as_one_size_is() -> None:
    meter, reported = metered()
    known, unknown = meter.begin_all([5, None])

    unknown.advance(3)
    meter.finish()
    known.advance(5)
    unknown.finish()
    known.finish()

    assert reported == [(0, None), (3, None), (8, 8)]


async def test_what_starts_over_takes_back_what_was_done() -> None:
    meter, reported = metered()
    transfer = meter.begin(5)

    transfer.advance(4)
    transfer.restart()
    meter.finish()
    transfer.advance(5)
    transfer.restart(at=2)
    meter.finish()

    assert reported == [(0, 5), (2, 5)]


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
async def test_an_error_in_the_program_s_part_is_logged_without_its_words(
    caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def progress(*_: object) -> NoReturn:
        raise kind("canary")

    meter = Meter(progress)

    meter.begin(1).finish()

    assert f"progress raised {kind.__name__}" in caplog.text
    assert "canary" not in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_without_a_progress_it_needs_no_event_loop() -> None:
    Meter(None).begin(5).finish()
