"""A run that is only tried out: what is wrong is reported, and nothing is sent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import (
    Client,
    Environment,
    InvalidInputError,
    NotFoundError,
    Outgoing,
    PreviewReport,
    Problem,
    ProblemKind,
    RateLimit,
    UnauthorizedError,
    UploadFile,
)
from healthmsg.bulk.journal import State, open_journal
from healthmsg.errors import EmptyMessageError, InvalidFileError, InvalidIdError, JournalMismatchError
from healthmsg.sandbox import AnswerStatus, CutAfter, Delay, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, sent, states
from tests.bulk.sources import chats, posts
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def preview_report(client: Client, messages: Any, **options: Any) -> PreviewReport:
    report = await client.preview_many(messages, **options).report()
    assert isinstance(report, PreviewReport)
    return report


def kinds(report: PreviewReport) -> list[tuple[int, ProblemKind]]:
    return [(problem.index, problem.kind) for problem in report.problems]


# --- whose journal


async def test_another_environments_journal_is_refused_without_a_call(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    await sent(client, [Outgoing(chat, "1")], journal=file)
    elsewhere = Environment("acceptance", sandbox.environment.api_url.replace("127.0.0.1", "localhost"))
    calls = len(sandbox.calls)
    async with Client(sandbox.issue_token(), environment=elsewhere) as other:
        for messages in ([Outgoing(chat, "2")], None):
            with pytest.raises(JournalMismatchError, match="localhost"):
                await preview_report(other, messages, journal=file)

    assert len(sandbox.calls) == calls


async def test_another_accounts_journal_is_refused_when_the_service_is_asked_anyway(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    await sent(client, [Outgoing(chat, "1")], journal=file)
    other = client.with_token(sandbox.issue_token(sandbox.add_colleague("Bea", "Bos")))

    with pytest.raises(JournalMismatchError, match="another account"):
        await preview_report(other, [Outgoing(chat, "2")], journal=file, check_chats=True)


# --- without a journal


async def test_nothing_is_sent_nor_asked(client: Client, sandbox: Sandbox) -> None:
    report = await preview_report(client, [Outgoing(to, "x") for to in chats(sandbox, 3)])

    assert (report.messages, report.to_send, report.calls, report.problems) == (3, 3, 3, ())
    assert not sandbox.calls


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Outgoing("conversations/c1", " "), EmptyMessageError),
        (Outgoing("conversations/c1", 7), InvalidInputError),  # type: ignore[arg-type]
        (Outgoing("c1", "x"), InvalidIdError),
        (Outgoing("users/..", "x"), InvalidIdError),
        (Outgoing("conversations/c1", "x", ["/nowhere/a.pdf"]), InvalidFileError),
        (Outgoing("conversations/c1", "x", key=" "), InvalidInputError),
        (Outgoing("conversations/c1", "x", key="\ud800"), InvalidInputError),
    ],
)
async def test_what_would_be_refused_is_a_problem_and_the_others_are_counted(
    client: Client, message: Outgoing, error: type[Exception]
) -> None:
    report = await preview_report(
        client, [Outgoing("conversations/c1", "1"), message, Outgoing("conversations/c1", "2")]
    )

    assert (report.messages, report.to_send, report.invalid, report.calls) == (3, 2, 1, 2)
    (problem,) = report.problems
    assert (problem.index, problem.kind, type(problem.error)) == (1, ProblemKind.INVALID, error)
    assert problem.to == message.to


async def test_a_file_without_a_path_is_a_problem_only_with_a_journal(client: Client, file: Path) -> None:
    messages = [Outgoing("conversations/c1", "", [UploadFile(b"x", "a.txt")])]

    assert (await preview_report(client, messages)).invalid == 0
    assert (await preview_report(client, messages, journal=file)).invalid == 1


async def test_what_is_said_twice_to_the_same_recipient_is_reported_and_would_be_sent(client: Client) -> None:
    one, other = "conversations/c1", "conversations/c2"
    messages = [
        *(Outgoing(one, "x"), Outgoing(other, "x"), Outgoing(one, "x", key="k")),
        *(Outgoing(one, "y"), Outgoing(one, "x")),
    ]

    report = await preview_report(client, messages)

    assert kinds(report) == [(2, ProblemKind.DUPLICATE), (4, ProblemKind.DUPLICATE)]
    assert (report.duplicates, report.to_send) == (2, 5)


async def test_a_key_that_comes_twice_is_a_problem(client: Client) -> None:
    report = await preview_report(client, [Outgoing("conversations/c1", text, key="k") for text in "ab"])

    assert kinds(report) == [(1, ProblemKind.INVALID)]
    assert report.to_send == 1


@pytest.mark.slow
async def test_calls_and_seconds_are_those_of_the_run(sandbox: Sandbox) -> None:
    users = [f"users/{sandbox.add_user('An', str(number))}" for number in range(3)]
    messages = [Outgoing(to, text) for text in "ab" for to in [*users, *chats(sandbox, 4)]]
    async with Client(
        sandbox.issue_token(), environment=sandbox.environment, rate_limit=RateLimit(calls=10)
    ) as client:
        report = await preview_report(client, messages)
        assert (report.to_send, report.calls) == (14, 17)
        assert report.seconds == pytest.approx(1.7)
        await sent(client, messages)

    assert len(sandbox.calls) == report.calls


async def test_what_is_wrong_shows_nothing_private(client: Client) -> None:
    report = await preview_report(client, [Outgoing("c4nary", "c4nary", key="c4nary")])

    assert "c4nary" not in repr(report)
    assert "c4nary" not in str(report.problems[0].error)


@pytest.mark.slow
async def test_twenty_thousand_rows_are_read_as_they_are_needed(client: Client) -> None:
    read = []

    async def rows() -> AsyncIterator[Outgoing]:
        for number in range(20_000):
            read.append(number)
            yield Outgoing(f"conversations/c{number}", "" if number == 0 else "Beste")

    dry = aiter(client.preview_many(rows()))
    assert isinstance(await anext(dry), Problem)
    assert len(read) < 1000
    assert [problem async for problem in dry] == []
    assert len(read) == 20_000


async def test_only_the_first_thousand_problems_are_kept(client: Client) -> None:
    report = await preview_report(client, [Outgoing("conversations/c1", "")] * 1200)

    assert (report.invalid, len(report.problems)) == (1200, 1000)


async def test_it_can_be_gone_through_once(client: Client) -> None:
    dry = client.preview_many([Outgoing("conversations/c1", "")])
    assert [problem.index async for problem in dry] == [0]

    with pytest.raises(InvalidInputError, match="once"):
        _ = [problem async for problem in dry]
    report = await dry.report()
    assert (report.messages, report.invalid, report.problems) == (1, 1, ())


async def test_what_is_no_message_is_raised(client: Client) -> None:
    wrong: Any = [None]
    with pytest.raises(InvalidInputError, match="Outgoing"):
        await preview_report(client, wrong)


async def test_who_breaks_out_leaves_nothing_open(client: Client, file: Path) -> None:
    async with open_journal(file):
        pass
    async for problem in client.preview_many([Outgoing("c1", "x")] * 9, journal=file):
        assert problem.index == 0
        break
    # Python closes what was broken out of in a task of its own.
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "healthmsg journal"])


# --- asking


async def test_unknown_and_closed_chats_are_reported_once_each_when_asked(
    client: Client, sandbox: Sandbox
) -> None:
    good, closed = chats(sandbox, 2)
    sandbox.close_chat(closed)
    user = f"users/{sandbox.add_user('An', 'Visser')}"
    to = [good, closed, "conversations/n0body", "users/n0body", user, closed, "groupchats/n0body"]

    report = await preview_report(
        client, [Outgoing(one, str(n)) for n, one in enumerate(to)], check_chats=True
    )

    assert kinds(report) == [(n, ProblemKind.UNKNOWN_CHAT) for n in (1, 2, 3, 6)]
    assert report.unknown_chats == 4
    assert {type(problem.error) for problem in report.problems} == {InvalidInputError, NotFoundError}
    assert posts(sandbox) == 0
    assert len(sandbox.calls) == 6


@pytest.mark.parametrize("status", [400, 403, 412])
async def test_a_chat_that_cannot_be_asked_for_is_a_problem_of_that_one(
    client: Client, sandbox: Sandbox, status: int
) -> None:
    bad, good = chats(sandbox, 2)
    sandbox.faults.add(kind=AnswerStatus(status), path_contains=bad, times=None)

    report = await preview_report(client, [Outgoing(to, "x") for to in (bad, good)], check_chats=True)

    assert kinds(report) == [(0, ProblemKind.UNKNOWN_CHAT)]


async def test_what_concerns_everyone_is_raised(client: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(401), times=None)
    with pytest.raises(UnauthorizedError):
        await preview_report(client, [Outgoing(to, "x") for to in chats(sandbox, 3)], check_chats=True)


# --- with a journal


async def test_what_a_journal_knows_is_taken_into_account_and_left_as_it_is(
    client: Client, sandbox: Sandbox, target: str
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, AnswerStatus(404))
    messages = [
        Outgoing(chat, "fails"),
        Outgoing(chat, "x", key="k"),
        Outgoing(chat, "x"),
        Outgoing(chat, "y"),
    ]
    await sent(client, messages[:3], journal=target)
    calls, before = len(sandbox.calls), await states(target)

    report = await preview_report(client, [*messages, Outgoing(chat, "z", key="k2")], journal=target)
    assert (report.to_send, report.delivered_before, report.failed_before) == (2, 2, 1)
    report = await preview_report(client, messages, journal=target, retry_failed=True)
    assert (report.to_send, report.delivered_before, report.failed_before) == (2, 2, 0)
    report = await preview_report(client, [Outgoing(chat, "another", key="k")], journal=target)
    assert isinstance(report.problems[0].error, JournalMismatchError)

    assert len(sandbox.calls) == calls
    assert await states(target) == before


async def test_a_journal_that_is_not_there_is_not_made(client: Client, sandbox: Sandbox, file: Path) -> None:
    messages = [Outgoing(to, "x") for to in chats(sandbox, 2)]

    assert (await preview_report(client, messages, journal=file)).to_send == 2
    assert (await preview_report(client, None, journal=file)).messages == 0
    assert list(file.parent.iterdir()) == []


async def test_it_reads_beside_a_run(client: Client, sandbox: Sandbox, file: Path) -> None:
    messages = [Outgoing(to, "x") for to in chats(sandbox, 2)]
    async with client.send_many(messages, journal=file) as run:
        _ = [result async for result in run]
        async with open_journal(tmp := file.with_name("open.db")):
            assert (await preview_report(client, messages, journal=file)).delivered_before == 2
            assert (await preview_report(client, messages, journal=tmp)).to_send == 2


async def test_without_messages_it_counts_what_would_be_resumed(sandbox: Sandbox, file: Path) -> None:
    addresses = chats(sandbox, 4)
    async with fresh_client(sandbox) as client:
        lose(sandbox, AnswerStatus(404), addresses[0])
        await sent(client, [Outgoing(to, "x", key=to) for to in addresses[:2]], journal=file)
        lose(sandbox, CutAfter(), addresses[2])
        sandbox.faults.add(kind=Delay(60), method="GET", path_contains="/messages")
        more = [Outgoing(addresses[2], "a", key="in doubt"), Outgoing(addresses[2], "b", key="waits")]
        async with client.send_many(more, journal=file):
            await until(lambda: sandbox.calls[-1].method == "GET" and sandbox.calls[-1].template != "me")
    assert (await states(file))["in doubt"] is State.UNKNOWN

    async with fresh_client(sandbox) as client:
        report = await preview_report(client, None, journal=file)
        assert (report.messages, report.to_send, report.delivered_before) == (4, 1, 1)
        assert (report.in_doubt, report.failed_before) == (1, 1)
        assert (await preview_report(client, None, journal=file, retry_failed=True)).to_send == 2
        given = await preview_report(client, more, journal=file)
        assert (given.in_doubt, given.to_send) == (1, 1)
