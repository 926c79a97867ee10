"""Where a task stands, and how a process ends in which something does not end."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from healthmsg.bot.origin import Origin
from healthmsg.bot.standing import standing

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()
PROGRAM = """
import asyncio
from contextlib import suppress
from healthmsg.cli.bots import running
from tests.bot.fake_bot import SilentBot

running._ENDS_WITHIN = 0.1
gone = asyncio.Event()

class Stubborn(SilentBot):
    async def run(self, *, signals=True):
        self.kept = asyncio.ensure_future(self.cling())
        await asyncio.sleep(0)
        {ending}

    async def cling(self):
        while True:
            with suppress(asyncio.CancelledError):
                await gone.wait()

raise SystemExit(running.Run(Stubborn(), print).main())
"""


async def helper(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 60)  # it stands here


async def handler(event: asyncio.Event) -> None:
    await helper(event)


async def test_the_handler_is_named_and_the_innermost_line_that_is_an_author_s() -> None:
    task = asyncio.create_task(handler(asyncio.Event()))
    await asyncio.sleep(0)
    origin = Origin.of(handler)
    line = next(n for n, text in enumerate(LINES, start=1) if "# it stands here" in text)
    assert standing(task, {handler.__code__: origin}) == (str(origin), f"{__file__}:{line}")
    assert standing(task, {})[0] == "a handler"
    task.cancel()
    await asyncio.wait([task])
    assert standing(task, {}) == ("a handler", "a place that is not known")


def ended(ending: str) -> "subprocess.CompletedProcess[str]":
    program = PROGRAM.format(ending=ending)
    return subprocess.run(  # noqa: S603 - this test's own program
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.slow
def test_a_process_ends_though_something_in_it_does_not() -> None:
    done = ended("pass")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the process ends without it" in done.stdout


@pytest.mark.slow
@pytest.mark.thorough
def test_what_it_broke_off_with_is_said_all_the_same() -> None:
    done = ended("raise KeyError('CANARY')")
    assert done.returncode == 1
    assert "It broke off: KeyError" in done.stdout
    assert "CANARY" not in done.stdout + done.stderr
