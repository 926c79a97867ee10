"""How far a run is, and what it waits for, while it goes."""

import io
import logging
import re

import pytest
from rich.console import Console

from healthmsg.bulk.runner import _BEHIND
from healthmsg.cli.sending.results import Tally
from healthmsg.cli.sending.running import Announcements, Wait, hiding_wait_logs, make_progress, wait_for
from healthmsg.errors import (
    CampaignError,
    ConnectError,
    ForbiddenError,
    InternalServerError,
    JournalError,
    QuotaExceededError,
    RateLimitedError,
    TokenRenewalError,
    UnauthorizedError,
)
from healthmsg.log import log

CALL = "GET me"


def shown(wait: Wait | None, *, is_terminal: bool = True) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=is_terminal, color_system=None)
    with make_progress(console, lambda: wait) as progress:
        progress.add_task(str(Tally()), total=20_000, completed=12_345)
        progress.refresh()
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", screen.getvalue())


def test_it_shows_how_many_how_fast_what_became_of_them_and_the_time_left() -> None:
    line = shown(None)

    assert "12345/20000" in line
    assert re.search(r"/s +delivered 0 · not sent 0 · unknown 0 +-:--:--", line)


def test_it_shows_what_holds_the_run_up_in_the_place_of_what_stands_still() -> None:
    line = shown(wait_for(ConnectError(CALL, "api.example:443 refused the connection")))

    assert re.search(r"12345/20000 +cannot connect, trying again \(api\.example:443", line)
    assert "/s" not in line
    assert max(map(len, re.split(r"[\r\n]", line))) <= 80


def test_off_a_terminal_no_progress_is_shown() -> None:
    assert shown(None, is_terminal=False) == ""


WAITS = [
    (ConnectError(CALL, "x:1 refused it"), "cannot connect, trying again (x:1 refused it)"),
    (JournalError("The journal waits: the disk is full."), "The journal waits: the disk is full"),
    (RateLimitedError(CALL, 429), "the service asks for fewer calls (429), trying again"),
    (QuotaExceededError(CALL, 429), "this user's quota is used up, trying again"),
    (UnauthorizedError(CALL, 401), "the token is not accepted, waiting for another one"),
    (TokenRenewalError(CALL), "the token cannot be renewed, trying again"),
    (ForbiddenError(CALL, 403), "the service refuses every message (403), trying again"),
    (InternalServerError(CALL, 500), "the service answered 500, trying again"),
    (None, None),
]


@pytest.mark.parametrize(("error", "text"), WAITS)
def test_what_holds_a_run_up_is_said_without_names_of_errors(
    error: Exception | None, text: str | None
) -> None:
    wait = wait_for(error)

    assert (wait and wait.text) == text


@pytest.mark.parametrize(
    ("in_doubt", "seconds", "text"),
    [
        (8, 89.2, "waiting up to 90 s to learn what became of 8 messages"),
        (1, 3, "waiting up to 3 s to learn what became of 1 message"),
        (2, 0, "waiting to learn what became of 2 messages"),
    ],
)
def test_what_is_in_doubt_is_waited_for_by_number_and_time(in_doubt: int, seconds: float, text: str) -> None:
    assert wait_for(None, in_doubt=in_doubt, seconds=seconds) == Wait("in doubt", text)


def lines_of(*waits: tuple[float, Wait | None]) -> list[tuple[int, str]]:
    """Look four times a second; each wait lasts so many seconds."""
    announcements, lines, now = Announcements(), [], 0.0
    for seconds, wait in waits:
        end = now + seconds
        while now < end:
            if line := announcements.line(now, wait):
                lines.append((round(now), line))
            now += 0.25
    return lines


def test_a_long_wait_is_printed_less_and_less_often() -> None:
    assert lines_of((3600, Wait("c", "cannot connect")), (5, None)) == [
        (2, "cannot connect"),
        (62, "cannot connect, for 1 min now"),
        (182, "cannot connect, for 3 min now"),
        (422, "cannot connect, for 7 min now"),
        (902, "cannot connect, for 15 min now"),
        (1802, "cannot connect, for 30 min now"),
        (2702, "cannot connect, for 45 min now"),
        (3600, "going on"),
    ]


def test_waits_that_come_and_go_do_not_flood() -> None:
    assert lines_of(*[(1.5, Wait("c", "cannot connect")), (1.5, None)] * 1000) == []
    many = lines_of(*[(3, Wait("c", "cannot connect")), (3, Wait("q", "quota"))] * 200)
    assert len(many) <= 1200 / 10 + 1
    assert len(lines_of(*[(3, Wait("c", "cannot connect")), (3, None)] * 200)) <= 2 * 1200 / 10 + 2


def test_a_countdown_is_one_wait() -> None:
    counting = [(1.0, wait_for(None, in_doubt=8, seconds=90 - second)) for second in range(60)]

    assert lines_of(*counting) == [(2, "waiting up to 88 s to learn what became of 8 messages")]


def test_that_a_run_waits_behind_a_campaign_is_said_by_the_command_and_not_by_the_log_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits = CampaignError(_BEHIND)

    with hiding_wait_logs():
        log(logging.WARNING, _BEHIND)

    assert caplog.text == ""
    assert wait_for(waits) == Wait(_BEHIND, _BEHIND.removesuffix("."))
