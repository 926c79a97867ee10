"""Output to terminals, pipes and files that are gone, closed, full, or lack letters.

The exit status is that of what was sent, and the results are complete.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthmsg.sandbox import Sandbox
from tests.cli.command_line import add_recipients, read_results, run, until_sending, variables_of
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals"),
    pytest.mark.slow,
]

COUNT = 20
"""Recipients where the run has to last for a while."""
FEW = 3


@pytest.fixture
def chats(sandbox: Sandbox, path: Path) -> list[str]:
    return add_recipients(sandbox, path, COUNT)


def send(path: Path) -> tuple[str | Path, ...]:
    return ("send-many", path, "--yes", "--results", path.with_name("out.csv"))


def outcomes(path: Path) -> list[str]:
    return [row["outcome"] for row in read_results(path.with_name("out.csv"))]


def assert_all_was_sent(sandbox: Sandbox, path: Path, chats: list[str]) -> None:
    assert [len(sandbox.messages(chat)) for chat in chats] == [1] * len(chats)
    assert outcomes(path) == ["delivered"] * len(chats)


SILENCED = [
    *(">/dev/full 2>/dev/full", "2>&1 | head -c 9"),
    *(
        pytest.param(redirect, marks=pytest.mark.thorough)
        for redirect in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "| true")
    ),
]


@pytest.mark.parametrize("redirect", SILENCED)
async def test_a_run_does_not_depend_on_what_it_writes_to(
    sandbox: Sandbox, path: Path, redirect: str
) -> None:
    chats = add_recipients(sandbox, path, FEW)

    done = await run(sandbox, *send(path), env={"PYTHONUNBUFFERED": ""}, redirect=redirect)

    assert done.code == 0, done
    assert "Traceback" not in done.err
    assert_all_was_sent(sandbox, path, chats)


@pytest.mark.parametrize("redirect", ["2>&1 | head -c 9", *SILENCED[5:]])
async def test_a_refusal_does_not_depend_on_what_it_writes_to(
    sandbox: Sandbox, path: Path, redirect: str
) -> None:
    unbuffered = {"PYTHONUNBUFFERED": "1"}
    done = await run(sandbox, *send(path), "--encoding", "none", env=unbuffered, redirect=redirect)

    assert done.code == 2, done
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "redirect", [pytest.param(">&-", marks=pytest.mark.thorough), ">/dev/full", "| true"]
)
async def test_help_does_not_end_in_a_traceback(sandbox: Sandbox, redirect: str) -> None:
    done = await run(sandbox, "send-many", "--help", redirect=redirect)

    assert (done.code, done.err) == (0, "")


@pytest.mark.thorough
async def test_what_a_journal_holds_is_not_said_to_be_shown_when_it_was_not(
    sandbox: Sandbox, path: Path
) -> None:
    add_recipients(sandbox, path, FEW)
    await run(sandbox, *send(path))

    done = await run(sandbox, "journal", "show", path.with_name("lijst.journal.db"), redirect=">/dev/full")

    assert done.code == 1, done
    assert done.err.splitlines() == ["Error: the output could not be written"]


@pytest.mark.parametrize("redirect", [pytest.param("2>&-", marks=pytest.mark.thorough), ""])
async def test_a_terminal_with_few_letters_is_written_to(sandbox: Sandbox, path: Path, redirect: str) -> None:
    chats = add_recipients(sandbox, path, FEW)
    odd = path.with_name("caf\u00e9 \u2026.csv")
    odd.hardlink_to(path)

    done = await run(sandbox, *send(odd), env={"PYTHONIOENCODING": "ascii", "LANG": "C"}, redirect=redirect)

    assert done.code == 0, done
    assert "delivered 3 - not sent 0 - unknown 0" in done.out
    assert "caf\\xe9 ..." in done.out
    assert_all_was_sent(sandbox, path, chats)


class Terminal:
    """A terminal of a program's own, as its shell gives it."""

    START = (
        "import fcntl, os, sys, termios\n"
        "os.setsid()\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'healthmsg.cli', *sys.argv[1:]])"
    )

    def __init__(self) -> None:
        self.ours, self._theirs = os.openpty()
        self._is_open = True

    async def begin(
        self, sandbox: Sandbox, *arguments: str | Path, encoding: str = "utf-8"
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", self.START, *map(str, arguments)),
            env=os.environ | variables_of(sandbox) | {"PYTHONIOENCODING": encoding, "TERM": "xterm"},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
        )
        os.close(self._theirs)
        return process

    async def read(self) -> str:
        """Read all that is shown until the program has ended."""
        found = b""
        try:
            while block := await asyncio.to_thread(os.read, self.ours, 65536):
                found += block
        except OSError:  # the other end was closed
            pass
        self.close()
        return found.decode(errors="replace")

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self.ours)


@pytest.fixture
def screen() -> Iterator[Terminal]:
    screen = Terminal()
    yield screen
    screen.close()


async def test_a_progress_bar_is_shown_with_few_letters(
    sandbox: Sandbox, path: Path, chats: list[str], screen: Terminal
) -> None:
    process = await screen.begin(sandbox, *send(path), encoding="ascii")
    seen = await screen.read()

    assert await asyncio.wait_for(process.wait(), 30) == 0, seen
    assert "20/20" in seen
    assert "Traceback" not in seen
    assert_all_was_sent(sandbox, path, chats)


async def test_a_terminal_that_is_closed_does_not_end_the_run(
    sandbox: Sandbox, path: Path, chats: list[str], screen: Terminal
) -> None:
    process = await screen.begin(sandbox, *send(path))
    await until_sending(sandbox)
    screen.close()

    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert_all_was_sent(sandbox, path, chats)


async def test_a_terminal_that_is_closed_while_it_asks_sends_nothing(
    sandbox: Sandbox, path: Path, chats: list[str], screen: Terminal
) -> None:
    process = await screen.begin(sandbox, "send-many", path)
    seen = b""
    while b"Send 20 messages?" not in seen:
        seen += await asyncio.to_thread(os.read, screen.ours, 65536)
    screen.close()

    assert await asyncio.wait_for(process.wait(), 30) != 0
    assert not any(sandbox.messages(chat) for chat in chats)


async def test_a_terminal_that_stands_still_does_not_hold_the_run_up(
    sandbox: Sandbox, path: Path, chats: list[str], screen: Terminal
) -> None:
    process = await screen.begin(sandbox, *send(path))
    await until_sending(sandbox)
    os.write(screen.ours, b"\x13")  # Ctrl-S
    process.send_signal(signal.SIGINT)

    # The end of the run is noted, though nothing can be shown.
    await until(lambda: len(outcomes(path)) == COUNT)
    os.write(screen.ours, b"\x11")
    seen = await screen.read()

    assert await asyncio.wait_for(process.wait(), 30) == 130, seen
    sent = sum(len(sandbox.messages(chat)) for chat in chats)
    assert outcomes(path).count("delivered") == sent
    assert f"delivered {sent} · not sent 0 · unknown 0 · still to send {COUNT - sent}" in seen
