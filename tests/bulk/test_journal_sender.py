"""Bulk sending with a journal: every message once, over all runs."""

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
    Option,
    Outcome,
    Outgoing,
    Question,
    QuestionPayload,
    UnauthorizedError,
    UploadFile,
    exact_aux_id,
)
from healthmsg.bulk.journal import State
from healthmsg.errors import EarlierRunError, InvalidFileError, JournalInUseError, JournalMismatchError
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, outcomes, sent, states
from tests.bulk.sources import AsyncSource, bodies, chats, posts
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


# --- each once


async def test_each_is_delivered_once_and_nothing_again_by_a_second_run(
    client: Client, sandbox: Sandbox, target: str
) -> None:
    one, other = chats(sandbox, 2)
    messages = [Outgoing(to, text) for to, text in ((one, "1"), (other, "x"), (one, "2"), (one, "3"))]

    first = await sent(client, messages, journal=target)
    calls = posts(sandbox)
    again = await sent(client, messages, journal=target)

    assert outcomes(first) == outcomes(again) == [Outcome.DELIVERED] * 4
    assert bodies(sandbox, one) == ["1", "2", "3"]
    assert bodies(sandbox, other) == ["x"]
    assert posts(sandbox) == calls == 4
    assert [(result.key, result.to, result.message_id) for result in again] == [
        (result.key, result.to, result.message_id) for result in first
    ]


async def test_results_say_which_message_they_are_of(client: Client, sandbox: Sandbox, file: Path) -> None:
    (chat,) = chats(sandbox, 1)
    messages = [Outgoing(chat, "1", key="an"), Outgoing(chat, "2"), Outgoing("conversations/n0body", "3")]

    results = await sent(client, messages, journal=file)

    assert [result.index for result in results] == [0, 1, 2]
    assert [result.to for result in results] == [chat, chat, "conversations/n0body"]
    assert results[0].key == "an"
    assert all(result.key for result in results)
    assert [result.attempts for result in results] == [1, 1, 1]
    assert isinstance(results[2].error, NotFoundError)


async def test_a_label_comes_back_also_from_a_run_without_messages(
    client: Client, sandbox: Sandbox, target: str
) -> None:
    (chat,) = chats(sandbox, 1)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST", times=2)
    messages = [Outgoing(chat, "1", label="line 2"), Outgoing(chat, "2", label="line 3"), Outgoing(chat, "3")]
    messages += [Outgoing(chat, "", label="line 5"), Outgoing(chat, "4", label="NUL \0")]

    first = await sent(client, messages, journal=target)
    again = await sent(client, [Outgoing(chat, "1", label="line 7")], journal=target)
    rest = await sent(client, None, journal=target, retry_failed=True)

    labels = ["line 2", "line 3", None, "line 5", "NUL \0"]
    assert [result.label for result in first] == labels
    assert outcomes(first)[:3] == [Outcome.NOT_SENT, Outcome.NOT_SENT, Outcome.DELIVERED]
    assert isinstance(first[4].error, InvalidInputError)
    assert [result.label for result in again] == ["line 7"]
    # That of the newest run that was given the message.
    assert sorted(str(result.label) for result in rest) == ["line 3", "line 7"]
    assert outcomes(rest) == [Outcome.DELIVERED] * 2
    assert "line" not in repr(first)


async def test_a_report_counts_each_message_once(client: Client, sandbox: Sandbox, file: Path) -> None:
    (chat,) = chats(sandbox, 1)
    messages = [Outgoing(chat, "1"), Outgoing(chat, ""), Outgoing(chat, "2")]

    for _ in range(2):
        report = await client.send_many(messages, journal=file).report()
        assert (report.messages, report.delivered, report.not_sent, report.unknown) == (3, 2, 1, 0)


async def test_equal_texts_are_messages_of_their_own_in_every_run(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)

    for _ in range(2):
        results = await sent(client, [Outgoing(chat, "Hallo")] * 3, journal=file)
        assert outcomes(results) == [Outcome.DELIVERED] * 3
        assert len({result.message_id for result in results}) == 3

    assert bodies(sandbox, chat) == ["Hallo"] * 3


async def test_no_messages_are_no_results(client: Client, file: Path) -> None:
    assert await sent(client, [], journal=file) == []
    assert await sent(client, None, journal=file) == []


# --- what an earlier run left


@pytest.mark.slow
async def test_what_an_earlier_run_left_is_sent_by_one_that_is_given_it(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    chat, other = chats(sandbox, 2)
    messages = [Outgoing(chat, str(number), key=str(number)) for number in range(5)]
    run = client.send_many(messages, journal=file)
    async with run:
        await anext(aiter(run))
        await until(lambda: posts(sandbox))
    left = 5 - posts(sandbox)
    assert left > 0

    assert outcomes(await sent(client, [Outgoing(other, "x")], journal=file)) == [Outcome.DELIVERED]
    assert len(bodies(sandbox, chat)) == 5 - left
    assert list((await states(file)).values()).count(State.PARKED) == left

    results = await sent(client, messages[:4], journal=file)
    assert [(result.key, result.index) for result in results] == [(str(n), n) for n in range(4)]
    assert bodies(sandbox, chat) == ["0", "1", "2", "3"]

    (last,) = await sent(client, None, journal=file)
    assert (last.key, last.index, last.outcome) == ("4", None, Outcome.DELIVERED)
    assert bodies(sandbox, chat) == ["0", "1", "2", "3", "4"]
    assert await sent(client, None, journal=file) == []


@pytest.mark.slow
async def test_what_failed_is_tried_again_only_when_asked(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, AnswerStatus(404))
    messages = [Outgoing(chat, "1"), Outgoing(chat, "2")]

    first = await sent(client, messages, journal=file)
    again = await sent(client, messages, journal=file)
    assert outcomes(first) == outcomes(again) == [Outcome.NOT_SENT, Outcome.DELIVERED]
    assert isinstance(first[0].error, NotFoundError)
    assert isinstance(again[0].error, EarlierRunError)
    assert "NotFoundError" in str(again[0].error)
    assert await sent(client, None, journal=file) == []
    assert bodies(sandbox, chat) == ["2"]

    retried = await sent(client, messages, journal=file, retry_failed=True)
    assert outcomes(retried) == [Outcome.DELIVERED] * 2
    assert retried[0].attempts == 2
    assert bodies(sandbox, chat) == ["2", "1"]


async def test_a_run_without_messages_tries_again_what_failed_when_asked(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, AnswerStatus(404))
    await sent(client, [Outgoing(chat, "1", key="k")], journal=file)

    (result,) = await sent(client, None, journal=file, retry_failed=True)

    assert (result.key, result.outcome, result.index) == ("k", Outcome.DELIVERED, None)


# --- keys


async def test_another_text_under_a_known_key_is_refused_and_the_others_go_on(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    await sent(client, [Outgoing(chat, "1", key="k")], journal=file)

    refused, other = await sent(
        client, [Outgoing(chat, "c4nary", key="k"), Outgoing(chat, "2")], journal=file
    )

    assert (refused.key, refused.to, refused.outcome) == ("k", chat, Outcome.NOT_SENT)
    assert isinstance(refused.error, JournalMismatchError)
    assert "c4nary" not in f"{refused.error} {refused!r}"
    assert other.outcome is Outcome.DELIVERED
    assert bodies(sandbox, chat) == ["1", "2"]


async def test_a_key_that_comes_twice_in_a_run_is_refused_the_second_time(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)

    first, second = await sent(client, [Outgoing(chat, "1", key="k")] * 2, journal=file)

    assert (first.outcome, second.outcome) == (Outcome.DELIVERED, Outcome.NOT_SENT)
    assert isinstance(second.error, InvalidInputError)
    assert bodies(sandbox, chat) == ["1"]


@pytest.mark.parametrize("unfit", ["\ud800", "a\0b", "k" * 1001, " "])
async def test_a_key_that_no_journal_can_hold_is_refused_alone(
    client: Client, sandbox: Sandbox, file: Path, unfit: str
) -> None:
    (chat,) = chats(sandbox, 1)

    refused, other = await sent(client, [Outgoing(chat, "1", key=unfit), Outgoing(chat, "2")], journal=file)

    assert (refused.outcome, other.outcome) == (Outcome.NOT_SENT, Outcome.DELIVERED)
    assert isinstance(refused.error, InvalidInputError)


async def test_a_text_that_no_journal_can_hold_is_refused_alone(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)

    refused, other = await sent(client, [Outgoing(chat, "a\0b"), Outgoing(chat, "2")], journal=file)

    assert (refused.index, refused.outcome, other.outcome) == (0, Outcome.NOT_SENT, Outcome.DELIVERED)
    assert refused.key
    assert refused.to == chat


# --- whose journal


async def test_another_accounts_journal_is_refused_before_anything_is_sent(
    client: Client, sandbox: Sandbox, target: str
) -> None:
    (chat,) = chats(sandbox, 1)
    await sent(client, [Outgoing(chat, "1")], journal=target)
    calls = posts(sandbox)
    other = client.with_token(sandbox.issue_token(sandbox.add_colleague("Bea", "Bos")))

    with pytest.raises(JournalMismatchError):
        await sent(other, [Outgoing(chat, "2")], journal=target)

    assert posts(sandbox) == calls


async def test_two_tokens_of_one_user_share_a_journal(client: Client, sandbox: Sandbox, target: str) -> None:
    (chat,) = chats(sandbox, 1)
    await sent(client, [Outgoing(chat, "1")], journal=target)

    results = await sent(client.with_token(sandbox.issue_token()), [Outgoing(chat, "2")], journal=target)

    assert outcomes(results) == [Outcome.DELIVERED]


@pytest.mark.parametrize("resumes", [False, True])
async def test_a_journal_of_another_environment_is_refused_before_any_call(
    sandbox: Sandbox, target: str, *, resumes: bool
) -> None:
    (chat,) = chats(sandbox, 1)
    async with fresh_client(sandbox) as client:
        await sent(client, [Outgoing(chat, "1")], journal=target)
    # The user, and the user's id, are the same there.
    elsewhere = Environment("acceptance", sandbox.environment.api_url.replace("127.0.0.1", "localhost"))
    calls = len(sandbox.calls)
    async with Client(sandbox.issue_token(), environment=elsewhere) as client:
        with pytest.raises(JournalMismatchError, match="localhost"):
            await sent(client, None if resumes else [Outgoing(chat, "2")], journal=target)

    assert len(sandbox.calls) == calls


async def test_a_revoked_token_is_reported_at_the_start(sandbox: Sandbox, file: Path) -> None:
    chat, *_ = chats(sandbox, 1)
    token = sandbox.issue_token()
    sandbox.revoke_token(token)
    async with Client(token, environment=sandbox.environment) as client:
        with pytest.raises(UnauthorizedError):
            await sent(client, [Outgoing(chat, "1")], journal=file)


async def test_a_second_run_on_the_same_file_is_refused(client: Client, sandbox: Sandbox, file: Path) -> None:
    (chat,) = chats(sandbox, 1)
    source = AsyncSource([chat], count=3)
    async with client.send_many(source, journal=file) as run:
        await anext(aiter(run))
        with pytest.raises(JournalInUseError):
            await sent(client, [Outgoing(chat, "x")], journal=file)
        assert len([result async for result in run]) == 2


@pytest.mark.slow
async def test_two_runs_share_a_journal_in_postgresql_and_both_tell_all(
    client: Client, sandbox: Sandbox, database: str
) -> None:
    addresses = chats(sandbox, 6)
    messages = [Outgoing(to, str(number)) for number in range(3) for to in addresses]

    both = await asyncio.gather(*(sent(client, messages, journal=database) for _ in range(2)))

    for results in both:
        assert [result.index for result in results] == list(range(18))
        assert set(outcomes(results)) == {Outcome.DELIVERED}
    assert [bodies(sandbox, to) for to in addresses] == [["0", "1", "2"]] * 6


# --- to whom, and what


@pytest.mark.slow
async def test_a_users_conversation_is_started_once_over_all_runs(sandbox: Sandbox, file: Path) -> None:
    user = sandbox.add_user("An", "Visser")
    for number in range(3):
        async with fresh_client(sandbox) as client:
            messages = [Outgoing(f"users/{user}", f"{number}{letter}") for letter in "ab"]
            results = await sent(client, messages, journal=file)
            assert [(result.to, result.outcome) for result in results] == [
                (f"users/{user}", Outcome.DELIVERED)
            ] * 2

    starts = [call for call in sandbox.calls if (call.method, call.template) == ("POST", "conversations")]
    assert len(starts) == 1


async def test_a_question_is_asked(client: Client, sandbox: Sandbox, file: Path) -> None:
    (chat,) = chats(sandbox, 1)
    question = Question([Option("Ja", style="green"), Option("Nee")], (sandbox.user_id,), multi_answer=True)

    for _ in range(2):
        (asked,) = await sent(client, [Outgoing(chat, "Komt u?", question=question)], journal=file)
        assert asked.outcome is Outcome.DELIVERED

    (message,) = sandbox.messages(chat)
    assert isinstance(message.payload, QuestionPayload)
    assert [(option.label, option.style) for option in message.payload.options] == [
        ("Ja", "green"),
        ("Nee", None),
    ]


async def test_an_id_with_a_diacritic_survives_the_journal(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    sandbox.add_conversation(aux_id="José 3/e")
    handle = client.auxiliary.conversations(exact_aux_id("José 3/e"))

    (result,) = await sent(client, [Outgoing(handle, "Hallo")], journal=file)

    assert (result.to, result.outcome) == ("aux/conversations/José 3/e", Outcome.DELIVERED)


async def test_files_go_along_if_they_have_a_path(
    client: Client, sandbox: Sandbox, file: Path, tmp_path: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF")
    given: list[Any] = [[scan], [UploadFile(b"%PDF", "a.pdf")], [tmp_path / "none.pdf"]]

    results = await sent(client, [Outgoing(chat, "", files) for files in given], journal=file)

    assert outcomes(results) == [Outcome.DELIVERED, Outcome.NOT_SENT, Outcome.NOT_SENT]
    assert all(isinstance(result.error, InvalidFileError) for result in results[1:])
    (message,) = sandbox.messages(chat)
    assert sandbox.file_content(message.attachments[0].id) == b"%PDF"


@pytest.mark.slow
async def test_a_file_that_has_changed_since_it_was_entered_is_not_sent(
    client: Client, sandbox: Sandbox, file: Path, tmp_path: Path
) -> None:
    chat, other = chats(sandbox, 2)
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF")

    async def one_and_then_a_change() -> AsyncIterator[Outgoing]:
        # The first holds up its chat; the second has been looked at when the file changes.
        for text in "ab":
            yield Outgoing(chat, text)
        yield Outgoing(chat, "c", [scan])
        await until(lambda: sandbox.messages(chat))
        scan.write_bytes(b"%PDF and more")
        yield Outgoing(other, "d")

    sandbox.faults.add(kind=AnswerStatus(429, headers={"Retry-After": "1"}), method="POST", after=1)
    results = await sent(client, one_and_then_a_change(), journal=file)  # type: ignore[arg-type]

    by_index = {result.index: result for result in results}
    assert by_index[2].outcome is Outcome.NOT_SENT
    assert isinstance(by_index[2].error, InvalidFileError)
    assert bodies(sandbox, chat) == ["a", "b"]


async def test_what_was_delivered_is_reported_although_its_file_is_gone(
    client: Client, sandbox: Sandbox, file: Path, tmp_path: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF")
    messages = [Outgoing(chat, "", [scan], key="k")]
    (first,) = await sent(client, messages, journal=file)
    scan.unlink()

    (again,) = await sent(client, messages, journal=file)

    assert (again.outcome, again.message_id) == (Outcome.DELIVERED, first.message_id)
