"""`healthmsg bot run`: signals, exit statuses, and a new process for each change."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest

from healthmsg.bot.surface import BotSurface
from healthmsg.cli.bots import running as running_module
from healthmsg.cli.bots.reloading import Reloader, changes_in
from healthmsg.cli.bots.running import ControlAt, Run
from healthmsg.cli.problems import ExitCode
from healthmsg.errors import JournalError
from tests.bot.fake_bot import SilentBot
from tests.cli.test_bot import handled
from tests.waiting import until

ROOT = Path(__file__).parents[2]


class Running:
    """A bot that is being run in this process."""

    def __init__(self, bot: BotSurface, control: ControlAt | None = None, *, is_quiet: bool = False) -> None:
        self.lines: list[str] = []
        self.ended_at_once: list[int] = []
        self.run = Run(bot, self.lines.append, control, is_quiet, end_at_once=self.ended_at_once.append)
        self.task = asyncio.ensure_future(self.run.run())


async def test_the_first_signal_drains_and_the_exit_status_says_which_it_was() -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        bot = SilentBot()
        running = Running(bot)
        await until(lambda bot=bot: bot.asked)  # type: ignore[misc]
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(running.task, 5) == code
        assert bot.asked == [("run", False), "stop"]
        assert not bot.opened
        assert running.ended_at_once == []
        assert "being finished" in running.lines[-2]


async def test_the_bot_s_own_messages_have_no_lines_unless_a_handler_wants_them() -> None:
    bot = SilentBot()
    running = Running(bot)
    await until(lambda: bot.asked)
    before = len(running.lines)
    for watcher in bot.watchers:
        watcher(handled(is_own=True, ended="ignored", handler=""))
        watcher(handled(is_own=True))
        watcher(handled(ended="ignored", handler=""))
    running.run.bot.stop()
    await running.task

    assert len(running.lines[before:-1]) == 2


async def test_a_bot_that_stands_by_says_so_and_when_it_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "_STANDS_BY_AFTER", 0.05)
    bot = SilentBot()
    bot.has_store.clear()
    running = Running(bot)
    await until(lambda: len(running.lines) == 1)
    assert "stands by" in running.lines[0]
    bot.has_store.set()
    await until(lambda: len(running.lines) > 1)
    assert "The bot runs." in running.lines[1]
    bot.stop()
    assert await running.task == 0


async def test_a_bot_that_is_stopped_while_it_stands_by_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "_STANDS_BY_AFTER", 0.05)
    bot = SilentBot()
    bot.has_store.clear()
    running = Running(bot)
    await until(lambda: running.lines)
    bot.stop()
    assert await running.task == 0
    assert not [line for line in running.lines if "The bot runs." in line]


async def test_the_second_signal_ends_at_once() -> None:
    class Busy(SilentBot):
        def stop(self) -> None:
            self.asked.append("stop")

    bot = Busy()
    running = Running(bot)
    await until(lambda: bot.asked)
    for count in (1, 2):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda count=count: len(bot.asked) + len(running.ended_at_once) > count)  # type: ignore[misc]
    assert running.ended_at_once == [128 + signal.SIGTERM]
    assert bot.asked == [("run", False), "stop"]
    bot.ended.set()
    assert await running.task == 0


async def test_a_signal_while_the_bot_opens_ends_that() -> None:
    class Opening(SilentBot):
        async def __aenter__(self) -> Self:
            self.asked.append("opening")
            await asyncio.Event().wait()
            return self

    bot = Opening()
    running = Running(bot)
    await until(lambda: bot.asked)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running.task, 5) == 0


async def test_signals_are_the_process_s_own_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    bot = SilentBot()
    bot.ended.set()
    assert await Running(bot).task == ExitCode.DONE
    assert signal.getsignal(signal.SIGTERM) is before


async def test_what_the_bot_fails_with_is_raised() -> None:
    bot = SilentBot(failure=JournalError("the disk is full"))
    bot.ended.set()
    with pytest.raises(JournalError):
        await Running(bot).task


@pytest.mark.parametrize("is_quiet", [False, True])
async def test_each_event_makes_a_line_unless_it_is_quiet(is_quiet: bool) -> None:
    bot = SilentBot()
    running = Running(bot, is_quiet=is_quiet)
    await until(lambda: bot.asked)
    for watcher in bot.watchers:
        watcher(handled())
    bot.stop()
    await running.task
    assert any("message_created" in line for line in running.lines) is not is_quiet


async def test_the_echo_of_a_reply_makes_no_line_unless_a_handler_wants_it() -> None:
    bot = SilentBot()
    running = Running(bot)
    await until(lambda: bot.asked)
    for watcher in bot.watchers:
        watcher(handled(is_own=True, ended="ignored"))
        watcher(handled(is_own=True, ended="done"))
    bot.stop()
    await running.task
    assert sum("message_created" in line for line in running.lines) == 1


async def test_the_control_surface_is_there_as_long_as_the_bot() -> None:
    bot = SilentBot()
    running = Running(bot, ControlAt(0, "t0ken"))
    await until(lambda: bot.asked)
    (line,) = [line for line in running.lines if "Controlled" in line]
    port = int(line.rstrip(".").rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    bot.stop()
    await running.task
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.slow
async def test_the_command_runs_a_module_of_this_folder_until_sigterm(tmp_path: Path) -> None:
    (tmp_path / "authors.py").write_text("from tests.bot.fake_bot import SilentBot\nbot = SilentBot()\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "healthmsg.cli", "bot", "run", "authors:bot"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"The bot runs." in await asyncio.wait_for(process.stderr.readline(), 60)
    process.terminate()
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (0, b"")
    assert [line.split(b"  ")[1] for line in err.splitlines()] == [
        b"Stopping: what was begun is being finished.",
        b"Ended.",
    ]


# --- again and again

WRITES_AND_WAITS = """
import pathlib, signal, sys, time
log = pathlib.Path(sys.argv[1])
def drain(*_):
    with log.open("a") as file: file.write("drained ")
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
with log.open("a") as file: file.write("started ")
while True: time.sleep(0.01)
"""
FAILS = """
import pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as file: file.write("failed ")
sys.exit(1)
"""


class Changes:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[object] = asyncio.Queue()

    async def __call__(self) -> AsyncIterator[object]:
        while True:
            yield await self.queue.get()


@pytest.mark.slow
async def test_a_change_drains_the_process_and_begins_another_one(tmp_path: Path) -> None:
    log, changes, lines = tmp_path / "log", Changes(), list[str]()
    log.touch()
    reloader = Reloader((sys.executable, "-c", WRITES_AND_WAITS, str(log)), changes, lines.append)
    task = asyncio.ensure_future(reloader.run())
    await until(lambda: log.read_text() == "started ")
    changes.queue.put_nowait("bot.py")
    await until(lambda: log.read_text() == "started drained started ")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(task, 10) == 0
    assert log.read_text() == "started drained started drained "
    assert lines == ["Changed: starting again."]


@pytest.mark.slow
async def test_a_process_that_fails_waits_for_a_change_and_one_that_ends_ends_it_all(tmp_path: Path) -> None:
    log, changes, lines = tmp_path / "log", Changes(), list[str]()
    log.touch()
    reloader = Reloader((sys.executable, "-c", FAILS, str(log)), changes, lines.append)
    task = asyncio.ensure_future(reloader.run())
    await until(lambda: lines)
    assert "status 1: waiting" in lines[0]
    reloader.command = (sys.executable, "-c", "")
    changes.queue.put_nowait("bot.py")
    assert await asyncio.wait_for(task, 10) == 0
    assert log.read_text() == "failed "


@pytest.mark.slow
async def test_a_process_that_does_not_end_is_ended_by_a_second_signal(tmp_path: Path) -> None:
    log, changes = tmp_path / "log", Changes()
    log.touch()
    script = WRITES_AND_WAITS.replace("    sys.exit(0)", "    signal.signal(signal.SIGTERM, signal.SIG_DFL)")
    reloader = Reloader((sys.executable, "-c", script, str(log)), changes, print, drain_within=0.05)
    task = asyncio.ensure_future(reloader.run())
    await until(lambda: log.read_text() == "started ")
    changes.queue.put_nowait("bot.py")
    await until(lambda: log.read_text() == "started drained started ")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reloader._process is not None
    assert reloader._process.returncode is not None


@pytest.mark.slow
async def test_python_files_of_the_folder_are_watched(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    changes = changes_in(tmp_path)()
    first = asyncio.ensure_future(anext(changes))
    for number in range(200):
        (tmp_path / "authors.py").write_text(f"x = {number}")
        await asyncio.sleep(0.05)
        if first.done():
            break
    assert first.result()
    await changes.aclose()  # type: ignore[attr-defined]
