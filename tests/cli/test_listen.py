"""`healthmsg listen`: a line for each event, and nothing in it that should not be there."""

import asyncio
import io
import json
import os
import re
import select
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import pytest
from attrs import evolve

from healthmsg.cli.listen import parse_kinds
from healthmsg.cli.listening import names as names_module
from healthmsg.cli.listening.documents import document
from healthmsg.cli.listening.status import StatusLines
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.terminal import (
    _WRITE_TIMEOUT,
    guard_standard_streams,
    without_blocking_output,
    write_line,
)
from healthmsg.client import Client
from healthmsg.errors import JournalInUseError
from healthmsg.events import (
    Event,
    GroupChatCreated,
    MembersAdded,
    MessageCreated,
    MessageDeleted,
    PresenceChanged,
    QuestionAnswered,
    TypingStarted,
    UnknownEvent,
    event_from_dict,
)
from healthmsg.ids import ChatAddress
from healthmsg.models import Attachment, Message, QuestionPayload, User
from healthmsg.sandbox import AnswerStatus, Delay, Sandbox
from tests.cli.command_line import Done, Process, end, invoke, run, variables_of
from tests.cli.command_line import begin as begin_process
from tests.cli.event_stream import DONE, EVENTS, EventStream
from tests.events.examples import EVENTS as EVERY_KIND
from tests.waiting import until

NOON: Final = datetime(2026, 1, 2, 12, tzinfo=UTC)
SECRET: Final = "CANARY"
SUBJECT: Final = "Wijk\r3"
THE_END: Final = JournalInUseError("the stream has ended")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(sample_data=False) as sandbox:
        yield sandbox


def message(chat: str, user: str, number: int = 1, body: str = SECRET, **fields: Any) -> MessageCreated:
    made = Message(f"m{number}", body=body, user_id=user, **fields)
    return MessageCreated.of(ChatAddress.parse(chat), made, me="me", received_at=NOON)


async def listened(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, events: Iterable[Event], *arguments: str
) -> list[str]:
    """Return what is printed of these events, without the time at the start of each line."""
    monkeypatch.setattr(Client, "events", EventStream(events, error=THE_END).opened)
    done = await run(sandbox, "listen", "--quiet", *arguments)
    assert (done.code, done.err) == (1, "Error: the stream has ended\n")
    return [re.sub(r"\A\d\d:\d\d:\d\d  ", "", line) for line in done.out.splitlines()]


# --- lines


async def test_a_line_says_who_did_what_and_where(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    an = sandbox.add_user("An", "Visser")
    group = f"groupchats/{sandbox.add_group_chat('Wijk 3')}"
    chat = f"conversations/{sandbox.add_conversation(user=an)}"
    in_chat: dict[str, Any] = {"chat": ChatAddress.parse(chat), "received_at": NOON}
    in_group: dict[str, Any] = {"chat": ChatAddress.parse(group), "received_at": NOON}
    files = (Attachment("a1", SECRET), Attachment("a2"))
    added = tuple(User(f"u{number}", first_name=f"Ko{number}") for number in range(7))
    late = evolve(message(chat, an, created_at=NOON), caught_up=True, attempt=2)

    lines = await listened(
        sandbox,
        monkeypatch,
        [
            message(group, an, attachments=files),
            message(chat, an, payload=QuestionPayload()),
            QuestionAnswered(id="1", message_id="m", user_id=an, options=(SECRET,), **in_chat),
            MessageDeleted(id="2", message_id="m", **in_group),
            MembersAdded(id="3", user_id=an, users=added, **in_group),
            GroupChatCreated(id="4", **in_group),
            TypingStarted(id="5", user_id=an, is_own=True, **in_chat),
            PresenceChanged(id="6", user_id=an, status="online", received_at=NOON),
            UnknownEvent(id="7", name="new_thing", frame={"x": SECRET}, received_at=NOON),
            late,
        ],
    )

    assert lines == [
        'An Visser in "Wijk 3": message (2 files)',
        "An Visser: message (question)",
        "An Visser answered a question",
        'Someone in "Wijk 3" deleted a message',
        'An Visser in "Wijk 3" added Ko0, Ko1, Ko2, Ko3, Ko4 and 2 more',
        'New group chat: "Wijk 3"',
        'An Visser (you) in "An Visser" is typing',
        "An Visser is online",
        "Unknown event: new_thing",
        f"An Visser: message  [caught up, written {NOON.astimezone():%Y-%m-%d %H:%M}; attempt 2]",
    ]


async def test_texts_are_shown_only_if_they_are_asked_for(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    an = sandbox.add_user("An", "Visser")
    chat = f"conversations/{sandbox.add_conversation(user=an)}"
    answer = QuestionAnswered(
        id="1",
        message_id="m",
        user_id=an,
        options=("ja", "nee"),
        chat=ChatAddress.parse(chat),
        received_at=NOON,
    )

    assert await listened(sandbox, monkeypatch, [message(chat, an, body="Hallo"), answer], "--texts") == [
        "An Visser: message: Hallo",
        "An Visser answered: ja, nee",
    ]


@pytest.mark.parametrize("number", range(len(EVERY_KIND)))
async def test_every_kind_makes_one_line(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    event = EVERY_KIND[number]
    (line,) = await listened(sandbox, monkeypatch, [event])

    assert "text" not in line
    assert event.kind not in line


async def test_nothing_moves_the_cursor_or_ends_the_line(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    an = sandbox.add_user("An\x1b[2J", "Visser\u202e")
    group = f"groupchats/{sandbox.add_group_chat(SUBJECT)}"
    events = [
        message(group, an, body="een\ntwee\x9b31m\x07"),
        message(group, "u\x1b]0;x", body="x" * 2000),
        UnknownEvent(id="7", name="\x1b[1m", received_at=NOON),
    ]

    lines = await listened(sandbox, monkeypatch, events, "--texts")

    assert lines == [
        'An\\x1b[2J Visser\\u202e in "Wijk\\x0d3": message: een\\x0atwee\\x9b31m\\x07',
        f'u\\x1b]0;x in "Wijk\\x0d3": message: {"x" * 1000}…',
        "Unknown event: …",
    ]


# --- names


def looked_up(sandbox: Sandbox) -> list[str]:
    return [call.path for call in sandbox.calls]


async def test_a_name_is_looked_up_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    an = sandbox.add_user("An", "Visser")
    group = sandbox.add_group_chat("Wijk 3")
    events = [message(f"groupchats/{group}", an, number) for number in range(5)]

    lines = await listened(sandbox, monkeypatch, events)

    assert lines == ['An Visser in "Wijk 3": message'] * 5
    assert len(looked_up(sandbox)) == 2


async def test_a_name_that_the_event_has_is_not_looked_up(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = User("u1", first_name="An", last_name="Visser")
    event = evolve(message("groupchats/gone", "u1"), message=Message("m", user=sender))

    assert (
        await listened(sandbox, monkeypatch, [event, event]) == ["An Visser in groupchats/gone: message"] * 2
    )
    assert len(looked_up(sandbox)) == 1


async def test_a_look_up_that_fails_shows_the_id_and_is_not_repeated(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.faults.add(kind=AnswerStatus(500), times=None)
    events = [message("conversations/c1", "u1", number) for number in range(3)]

    assert await listened(sandbox, monkeypatch, events) == ["u1 in conversations/c1: message"] * 3
    assert len(looked_up(sandbox)) == 2


async def test_a_service_that_does_not_answer_delays_one_line_by_one_wait(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "_LONGEST_WAIT", 0.1)
    sandbox.faults.add(kind=Delay(60), times=None)
    events = [message(f"conversations/c{number}", f"u{number}", number) for number in range(50)]

    async with asyncio.timeout(20):
        lines = await listened(sandbox, monkeypatch, events)

    assert lines == [f"u{number} in conversations/c{number}: message" for number in range(50)]
    assert len(looked_up(sandbox)) <= 2


async def test_only_so_many_names_are_kept(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "_MOST_KEPT", 2)
    chat = f"groupchats/{sandbox.add_group_chat('Wijk 3')}"
    an, bo = (sandbox.add_user(name, "X") for name in ("An", "Bo"))

    lines = await listened(sandbox, monkeypatch, [message(chat, user) for user in (an, an, bo, an)])

    assert [line.partition(" in ")[0] for line in lines] == ["An X", "An X", "Bo X", "An X"]
    # The chat is used each time and stays; An had to make room for Bo.
    assert len(looked_up(sandbox)) == 4


# --- JSON


async def test_json_lines_have_neither_texts_nor_names(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = (User("u2", first_name=SECRET, extra={"x": SECRET}),)
    full = Message(
        "m1",
        body=SECRET,
        user=User("u1", last_name=SECRET),
        user_id="u1",
        attachments=(Attachment("a1", SECRET, 3, "text/plain"),),
        mentions=people,
        payload=QuestionPayload(style=SECRET),
        created_at=NOON,
        liked_by=people,
        extra={"x": SECRET},
    )
    events = [evolve(message("groupchats/g1", "u1"), message=full, extra={"x": SECRET})]

    (line,) = await listened(sandbox, monkeypatch, events, "--json")

    assert json.loads(line) == {
        "kind": "message_created",
        "id": "message/m1",
        "received_at": "2026-01-02T12:00:00+00:00",
        "is_own": False,
        "caught_up": False,
        "attempt": 1,
        "chat": "groupchats/g1",
        "message": {
            "id": "m1",
            "user": {"id": "u1"},
            "user_id": "u1",
            "attachments": [{"id": "a1", "size": 3, "mime_type": "text/plain"}],
            "mentions": [{"id": "u2"}],
            "payload": {"type": "question"},
            "created_at": "2026-01-02T12:00:00+00:00",
            "liked_by": [{"id": "u2"}],
        },
    }
    assert not looked_up(sandbox)


async def test_json_lines_with_texts_are_the_whole_event(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = await listened(sandbox, monkeypatch, EVERY_KIND, "--json", "--texts")

    assert [event_from_dict(json.loads(line)) for line in lines] == EVERY_KIND


def test_without_texts_no_json_has_what_a_person_wrote() -> None:
    of_chat: dict[str, Any] = {"chat": ChatAddress.parse("groupchats/g1"), "received_at": NOON}
    people = (User("u2", first_name=SECRET),)
    events: list[Event] = [
        QuestionAnswered(
            id=f"answer/m/u/{SECRET}", message_id="m", user_id="u", options=(SECRET,), **of_chat
        ),
        MembersAdded(id="a", users=people, **of_chat),
        PresenceChanged(id="p", user_id="u", status=f"{SECRET} {SECRET}", received_at=NOON),
        UnknownEvent(id="x", name=f"{SECRET} x", frame={"body": SECRET}, **of_chat),
        *(evolve(event, extra={"x": SECRET}) for event in EVERY_KIND),
    ]

    for event in events:
        written = document(event, with_texts=False)
        assert SECRET not in written
        assert json.loads(written)["kind"] == event.kind
    assert json.loads(document(events[0], with_texts=False))["id"] == "answer/m/u/…"
    assert "options" not in json.loads(document(events[0], with_texts=False))


# --- options


async def test_the_options_reach_the_stream(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = EventStream([], error=THE_END)
    monkeypatch.setattr(Client, "events", stream.opened)
    store = tmp_path / "inbox.db"

    await run(
        sandbox,
        *("listen", "--store", store, "--subscribe", "all"),
        *("--kind", "message_created", "--kind", "question-answered"),
    )

    assert stream.asked == {
        "store": store,
        "kinds": (MessageCreated, QuestionAnswered),
        "subscribe": "all",
    }
    assert stream.is_closed
    await run(sandbox, "listen")
    assert stream.asked == {"store": None, "kinds": None, "subscribe": "active"}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RefusedError, match="--kind letter: there is message_created"):
        parse_kinds(["letter"])


@pytest.mark.parametrize(
    ("arguments", "env", "problem"),
    [
        (["--kind", "letter"], {}, "there is message_created"),
        ([], {"HEALTHMSG_TOKEN": ""}, "HEALTHMSG_TOKEN"),
        ([], {"HEALTHMSG_API_URL": "", "HEALTHMSG_ENVIRONMENT": "kpn"}, "HEALTHMSG_GATEWAY_URL"),
        (["--subscribe", "some"], {}, "some"),
        (["--store", "mysql://x"], {}, "--store: a journal must be a path"),
        (["--store", "a.db", "--store", "b.db"], {}, "--store is given 2 times"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: list[str], env: dict[str, str], problem: str) -> None:
    account = {"HEALTHMSG_TOKEN": "t", "HEALTHMSG_API_URL": "http://127.0.0.1:9/v1"}
    done = invoke("listen", *arguments, env=account | env)

    assert done.code == 2, done
    assert problem in done.err
    assert done.out == ""


# --- how the connection is


def said(*looks: tuple[float, str, int]) -> list[str]:
    lines = StatusLines()
    return [line for look in looks if (line := lines.line(*look)) is not None]


def test_how_the_connection_is_is_said_only_when_it_changes() -> None:
    assert said(
        (1, "connecting", 0),
        (2, "catching up", 40),
        (4.5, "catching up", 12),
        (5, "catching up", 3),
        (6, "live", 0),
        (7, "live", 0),
    ) == ["Connecting.", "Connected, catching up: 12 chats.", "Connected: events are shown as they come."]


def test_chats_that_are_read_while_it_is_connected_are_not_worth_a_line() -> None:
    assert said((1, "live", 0), (2, "catching up", 1), (9, "catching up", 1), (10, "live", 0)) == [
        "Connected: events are shown as they come."
    ]


def test_a_few_chats_that_are_read_at_once_are_not_worth_a_line() -> None:
    assert said((1, "waiting", 0), (2, "catching up", 2), (3, "live", 0)) == [
        "No connection: trying again.",
        "Connected: events are shown as they come.",
    ]


def test_tries_to_connect_again_are_one_line() -> None:
    tries = [(float(now), ("waiting", "connecting")[now % 2], 0) for now in range(100)]

    assert said(*tries, (100.0, "closed", 0)) == ["No connection: trying again."]


async def test_how_it_is_goes_to_the_standard_error_and_not_if_quiet(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = EventStream([message("conversations/c1", "u1")], error=THE_END)
    monkeypatch.setattr(Client, "events", stream.opened)

    done = await run(sandbox, "listen")

    assert len(done.out.splitlines()) == 1
    assert done.err.splitlines() == [
        f"Events are read from: A SANDBOX on this machine, or a tunnel that begins here ({sandbox.url}/v1)",
        "Connected: events are shown as they come.",
        "Error: the stream has ended",
    ]


# --- with the service itself


@pytest.mark.slow
@pytest.mark.parametrize("with_store", [pytest.param(False, marks=pytest.mark.thorough), True])
async def test_what_others_send_is_shown_and_with_a_store_also_what_was_sent_meanwhile(
    sandbox: Sandbox, tmp_path: Path, *, with_store: bool
) -> None:
    an = sandbox.add_user("An", "Visser")
    chat = f"conversations/{sandbox.add_conversation(user=an)}"
    store = ["--store", str(tmp_path / "inbox.db")] if with_store else []

    async def shown(body: str, *, before: str | None) -> Done:
        if before is not None:
            await send(sandbox, chat, before)
        process = await begin_process(sandbox, "listen", "--texts", *store)
        assert process.stderr is not None
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"events are shown" not in (line := await process.stderr.readline()):
                assert line, "it ended"
            await send(sandbox, chat, body)
            first = await process.stdout.readuntil(body.encode())
        process.send_signal(signal.SIGINT)
        done = await end(process)
        return Done(done.code, first.decode() + done.out, done.err)

    first = await shown("een", before="oud")
    second = await shown("drie", before="twee")

    assert (first.code, second.code) == (130, 130)
    assert re.findall(r": message: (\w+)", first.out) == ["een"]
    assert re.findall(r": message: (\w+)", second.out) == (["twee", "drie"] if with_store else ["drie"])


async def send(sandbox: Sandbox, chat: str, body: str) -> None:
    assert (await run(sandbox, "send", chat, body)).code == 0


# --- how it ends


async def begin(
    sandbox: Sandbox,
    folder: Path,
    *arguments: str,
    count: int,
    redirect: str = "",
    stdout: int = asyncio.subprocess.PIPE,
) -> Process:
    """Run it in a process of its own, over so many events made by hand."""
    events = [message("conversations/c1", "u1", number) for number in range(count)]
    path = folder / "events.jsonl"
    path.write_text("".join(f"{json.dumps(event.to_dict())}\n" for event in events), encoding="utf-8")
    (folder / "done").touch()
    command = " ".join((sys.executable, "-m", "tests.cli.event_stream", "listen", *arguments))
    return await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec {command}" if not redirect else f"{command} {redirect}; exit $PIPESTATUS"),
        env={
            **os.environ,
            **variables_of(sandbox),
            EVENTS: str(path),
            DONE: str(folder / "done"),
        },
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


def done_in(folder: Path) -> list[str]:
    return (folder / "done").read_text(encoding="utf-8").splitlines()


async def test_ctrl_c_ends_it_cleanly(sandbox: Sandbox, tmp_path: Path) -> None:
    process = await begin(sandbox, tmp_path, "--json", count=3)
    await until(lambda: len(done_in(tmp_path)) == 3)
    process.send_signal(signal.SIGINT)
    done = await end(process)

    assert done.code == 130, done
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == [f"message/m{n}" for n in range(3)]
    assert "Error" not in done.err
    assert "Traceback" not in done.err


async def test_a_reader_that_leaves_ends_it_quietly_and_what_it_did_not_get_is_not_done(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    # The reader takes the first line, and only what a pipe holds can be written after it.
    process = await begin(sandbox, tmp_path, "--json", "--quiet", count=2000, redirect="| head -n 1")
    done = await end(process)

    assert (done.code, done.err, len(done.out.splitlines())) == (0, "", 1)
    assert 1 <= len(done_in(tmp_path)) < 2000


@pytest.mark.parametrize(
    ("redirect", "code", "error"),
    [(">&-", 0, ""), (">/dev/full", 1, "Error: No space left on device\n")],
)
async def test_an_event_whose_line_was_not_written_is_not_done(
    sandbox: Sandbox, tmp_path: Path, redirect: str, code: int, error: str
) -> None:
    done = await end(await begin(sandbox, tmp_path, "--json", "--quiet", count=3, redirect=redirect))

    assert (done.code, done.out, done.err) == (code, "", error)
    assert done_in(tmp_path) == []


async def test_a_line_waits_for_a_slow_reader_and_other_tasks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "é" * 100_000
    with pipe() as (reader, writer):
        stdout = io.TextIOWrapper(writer, encoding="utf-8")  # which closes the pipe when it goes
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        guard_standard_streams()
        with without_blocking_output():
            writing = asyncio.create_task(write_line(line))
            await until(lambda: not select.select([], [writer], [], 0)[1])
            # So long would any other output be waited for at most.
            await asyncio.sleep(_WRITE_TIMEOUT * 2)
            assert not writing.done()
            read = await asyncio.to_thread(reader.read, len(f"{line}\n".encode()))
            await writing

    assert read.decode() == f"{line}\n"


@contextmanager
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb") as writer:
        yield reader, writer


async def test_a_reader_that_stands_still_does_not_keep_ctrl_c_from_ending_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with pipe() as (reader, writer):
        process = await begin(sandbox, tmp_path, "--json", "--quiet", count=2000, stdout=writer.fileno())
        # The pipe is full: select has nothing to offer.
        await until(lambda: not select.select([], [writer], [], 0)[1])
        process.send_signal(signal.SIGINT)
        done = await end(process)
        writer.close()
        shown = reader.read().decode().splitlines(keepends=True)

    assert (done.code, done.err) == (130, "")
    # The last line may have been begun.
    assert sum(line.endswith("\n") for line in shown) == len(done_in(tmp_path)) < 2000
