"""How `healthmsg send-many` ends: what was sent decides, and the summary counts what is left."""

import asyncio
import errno
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, JournalError
from healthmsg.cli.sending.results import Results
from healthmsg.errors import ConfigurationError
from healthmsg.sandbox import AnswerStatus, CutAfter, Delay, Sandbox
from tests.cli.command_line import Done, add_recipients, begin, end, read_results, run, until_sending


def send(path: Path, *more: str, results: str = "out.csv") -> tuple[str | Path, ...]:
    return ("send-many", path, "--yes", "--results", path.with_name(results), *more)


def resume(path: Path, results: str = "2.csv") -> tuple[str | Path, ...]:
    journal = ("--journal", path.with_name("lijst.journal.db"))
    return ("send-many", "--resume", "--yes", *journal, "--results", path.with_name(results))


def outcomes(path: Path, results: str = "out.csv") -> list[str]:
    return [row["outcome"] for row in read_results(path.with_name(results))]


async def end_at_second_ctrl_c(sandbox: Sandbox, *arguments: str | Path) -> Done:
    process = await begin(sandbox, *arguments)
    # Both calls are running.
    await until_sending(sandbox, 2)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    shown = b""
    while b"Stopping" not in shown:
        line = await asyncio.wait_for(process.stdout.readline(), 10)
        assert line, "it ended"
        shown += line
    process.send_signal(signal.SIGINT)
    return await end(process)


# --- what is left


@pytest.mark.slow
async def test_a_second_ctrl_c_ends_at_once_and_counts_what_is_in_doubt(sandbox: Sandbox, path: Path) -> None:
    add_recipients(sandbox, path, 2)
    sandbox.faults.add(kind=Delay(60), method="POST", times=None)

    done = await end_at_second_ctrl_c(sandbox, *send(path))

    assert done.code == 130, done
    assert "delivered 0 · not sent 0 · unknown 0 · in doubt 2\n" in done.out
    assert "Go on with: healthmsg send-many " in done.out
    assert outcomes(path) == ["open", "open"]


@pytest.mark.slow
async def test_without_a_journal_what_was_under_way_is_not_called_unsent(
    sandbox: Sandbox, path: Path
) -> None:
    add_recipients(sandbox, path, 2)
    sandbox.faults.add(kind=Delay(60), method="POST", times=None)

    done = await end_at_second_ctrl_c(sandbox, *send(path, "--no-journal"))

    assert done.code == 130, done
    assert "delivered 0 · not sent 0 · unknown 0 · without a result 2\n" in done.out


@pytest.mark.slow
async def test_what_is_left_is_counted_when_resuming_is_interrupted(sandbox: Sandbox, path: Path) -> None:
    count = 300  # ten seconds of the limit: a busy machine may be as late with the second Ctrl-C
    chats = add_recipients(sandbox, path, count)
    process = await begin(sandbox, *send(path))
    await until_sending(sandbox)
    process.send_signal(signal.SIGINT)
    await end(process)
    before = sum(len(sandbox.messages(chat)) for chat in chats)
    calls = sum(call.method == "POST" for call in sandbox.calls)

    process = await begin(sandbox, *resume(path))
    await until_sending(sandbox, calls + 1)
    process.send_signal(signal.SIGINT)
    done = await end(process)

    assert done.code == 130, done
    sent = sum(len(sandbox.messages(chat)) for chat in chats)
    assert before < sent < count
    summary = f"delivered {sent - before} · not sent 0 · unknown 0 · still to send {count - sent}\n"
    assert summary in done.out


@pytest.mark.slow
@pytest.mark.thorough
async def test_what_is_left_is_counted_when_resuming_is_refused(sandbox: Sandbox, path: Path) -> None:
    add_recipients(sandbox, path, 3)
    refused = {"HEALTHMSG_TOKEN": "wr0ng"}
    await run(sandbox, *send(path), env=refused)
    first = await run(sandbox, *send(path, results="1.csv"), env=refused)

    done = await run(sandbox, *resume(path), env=refused)

    assert "unknown 0 · still to send 3\n" in first.out
    if "--resume" in first.out:
        assert (done.code, "unknown 0 · still to send 3\n" in done.out) == (1, True), done


def write_letters(path: Path) -> None:
    path.write_text("aux_id;body;files\nP0;Hallo;brief.pdf\nP1;Hallo;brief.pdf\n")


async def test_what_is_refused_again_is_not_advised_to_be_tried_again(sandbox: Sandbox, path: Path) -> None:
    chats = add_recipients(sandbox, path, 2)
    letter = path.with_name("brief.pdf")
    letter.write_bytes(b"%PDF one")
    write_letters(path)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST", times=None)
    refused = await run(sandbox, *send(path, "--retry-failed"))
    letter.write_bytes(b"%PDF two, corrected")
    sandbox.faults.clear()

    done = await run(sandbox, *resume(path), "--retry-failed")

    assert refused.out.count("--retry-failed") == 1, refused.out
    assert "Try again" not in done.out, done.out
    assert re.search(r"\n2 not sent because a file, .* column `key`, to those recipients alone", done.out)
    assert not any(sandbox.messages(chat) for chat in chats)


# --- results that cannot be written


class Disk:
    """Stands for `os.write`: no file of results takes more than so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self._free = free
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "out.csv":
            if not self._free:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = bytes(data[: self._free])
            self._free -= len(data)
        return self._write(descriptor, data)


async def test_with_a_journal_a_full_disk_under_the_results_ends_nothing(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = add_recipients(sandbox, path, 5)
    Disk(monkeypatch, 60)

    done = await run(sandbox, *send(path))

    assert done.code == 0, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [1] * 5
    assert "delivered 5 · not sent 0 · unknown 0\n" in done.out
    assert "The results are not complete: No space left on device." in done.err
    assert "Delivered, but not in the results: lines 2-6." in done.err
    export = re.search(r"The journal has them: healthmsg (.*)", done.err)
    assert export
    monkeypatch.undo()
    monkeypatch.chdir(path.parent)
    assert (await run(sandbox, *shlex.split(export[1]))).code == 0


async def test_without_a_journal_a_full_disk_ends_the_run_and_the_truth_is_said(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = add_recipients(sandbox, path, 100)
    Disk(monkeypatch, 60)

    done = await run(sandbox, *send(path, "--no-journal"))

    sent = sum(len(sandbox.messages(chat)) for chat in chats)
    assert done.code == 1, done
    assert 0 < sent < 100
    assert f"delivered {sent} · not sent {100 - sent} · unknown 0\n" in done.out
    assert "The run broke off: No space left on device\n" in done.out
    lines = re.search(r"Delivered, but not in the results: lines ([\d, -]+)\.", done.err)
    assert lines
    ranges = [(*map(int, part.split("-")),) for part in lines[1].split(", ")]
    assert sum(part[-1] - part[0] + 1 for part in ranges) == sent


@pytest.mark.slow
@pytest.mark.thorough
async def test_results_that_are_deleted_are_made_again(sandbox: Sandbox, path: Path) -> None:
    add_recipients(sandbox, path, 40)
    process = await begin(sandbox, *send(path))
    await until_sending(sandbox)
    path.with_name("out.csv").unlink()
    done = await end(process)

    assert done.code == 0, done
    assert outcomes(path) == ["delivered"] * 40


async def test_a_lock_that_is_deleted_does_not_say_that_there_is_no_journal(
    sandbox: Sandbox, path: Path
) -> None:
    add_recipients(sandbox, path, 90)
    sending = asyncio.create_task(run(sandbox, *send(path)))
    await until_sending(sandbox)
    path.with_name("lijst.journal.db.lock").unlink()
    done = await sending

    assert done.code == 1, done
    assert "The run broke off: The journal's `.lock` file was deleted or moved" in done.out
    assert "There is no journal" not in done.out


async def test_results_that_cannot_be_made_are_refused_before_anything_is_sent(
    sandbox: Sandbox, path: Path
) -> None:
    (chat,) = add_recipients(sandbox, path, 1)

    done = await run(sandbox, "send-many", path, "--yes", "--results", path / "out.csv")

    assert done.code == 2, done
    assert "--results says where they go" in done.err
    assert "Nothing was sent." in done.err
    assert not sandbox.messages(chat)
    assert list(path.parent.iterdir()) == [path]


# --- what goes wrong at the very end


@pytest.mark.parametrize(("lacking", "goes_on"), [(0, "--resume --journal "), (1, "{path} --journal ")])
async def test_the_journal_alone_is_gone_on_with_only_if_everything_is_in_it(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, lacking: int, goes_on: str
) -> None:
    add_recipients(sandbox, path, 2)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST")

    async def count(*_: object) -> int:
        return 2 - lacking

    monkeypatch.setattr("healthmsg.cli.send_many.count_entries", count)
    journal = ("--journal", str(path.with_name("lijst.journal.db")))

    done = await run(sandbox, *send(path, *journal))

    assert done.code == 1
    assert f"healthmsg send-many {goes_on.format(path=path)}" in done.out


BROKEN = [
    JournalError("The journal is gone."),
    ConfigurationError("no journal"),
    OSError(5, "Input/output error"),
    RuntimeError("private"),
]


@pytest.mark.parametrize("error", [*BROKEN, asyncio.CancelledError()], ids=lambda error: type(error).__name__)
async def test_what_fails_after_everything_was_delivered_is_a_warning(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    add_recipients(sandbox, path, 2)

    async def leave(client: Client, *_: object) -> None:
        await client.close()
        if any(call.method == "POST" for call in sandbox.calls):
            raise error

    monkeypatch.setattr(Client, "__aexit__", leave)

    done = await run(sandbox, *send(path))

    assert done.code == 0, done
    assert "delivered 2 · not sent 0 · unknown 0\n" in done.out
    assert "Nothing was sent" not in done.out + done.err
    assert "Go on with" not in done.out
    assert "private" not in done.out + done.err
    assert isinstance(error, asyncio.CancelledError) or "Warning: " in done.err


@pytest.mark.slow
@pytest.mark.parametrize("error", [*BROKEN, KeyboardInterrupt()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["count_entries", "is_all_delivered", "find_remaining"])
async def test_what_fails_while_it_is_summed_up_changes_no_status(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, step: str
) -> None:
    async def broken(*_: object, **__: object) -> Any:
        raise error

    add_recipients(sandbox, path, 3)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST", times=1)
    monkeypatch.setattr(f"healthmsg.cli.send_many.{step}", broken)

    failed = await run(sandbox, *send(path))
    done = await run(sandbox, *resume(path), "--retry-failed")

    assert (failed.code, done.code) == (1, 0), (failed, done)
    assert "delivered 2 · not sent 1 · unknown 0\n" in failed.out
    assert "Try again what was not sent: " in failed.out
    assert "delivered 1 · not sent 0 · unknown 0\n" in done.out


@pytest.mark.slow
async def test_a_mistake_of_ours_ends_the_run_but_not_the_summary(
    sandbox: Sandbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = add_recipients(sandbox, path, 30)

    def broken(*_: object) -> None:
        raise RuntimeError("private")

    monkeypatch.setattr(Results, "add", broken)

    done = await run(sandbox, *send(path))

    assert done.code == 1, done
    assert "The run broke off: RuntimeError, which is a mistake in this program\n" in done.out
    assert "private" not in done.out + done.err
    assert "Go on with: " in done.out
    monkeypatch.undo()
    again = await run(sandbox, *send(path, results="2.csv"))
    assert again.code == 0
    assert [len(sandbox.messages(chat)) for chat in chats] == [1] * 30


async def test_a_journal_with_others_that_failed_says_why_it_is_1(sandbox: Sandbox, path: Path) -> None:
    add_recipients(sandbox, path, 3)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST", times=1)
    await run(sandbox, *send(path))

    done = await run(sandbox, *resume(path))

    assert done.code == 1, done
    assert "the journal has others that were not delivered" in done.err
    assert f"healthmsg journal show {path.with_suffix('.journal.db')}" in done.err


async def test_what_stays_unknown_comes_with_the_way_out(sandbox: Sandbox, path: Path) -> None:
    add_recipients(sandbox, path, 1)
    sandbox.faults.add(kind=CutAfter(), method="POST")
    sandbox.faults.add(kind=AnswerStatus(403), method="GET", path_contains="/messages", times=None)

    done = await run(sandbox, *send(path))

    assert done.code == 1, done
    command = f"healthmsg journal unknown {path.with_suffix('.journal.db')}"
    assert f"See what may have been sent, and settle it: {command}\n" in done.out
    again = await run(sandbox, *send(path, results="2.csv"))
    assert "not sent or unknown 1, to be looked for 0" in again.out
