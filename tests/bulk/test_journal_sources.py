"""Where the messages of a run with a journal come from, and what of them is shown."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, InvalidInputError, Outcome, Outgoing, SendResult
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Fault, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, outcomes
from tests.bulk.sources import AsyncSource, Source, bodies, chats, read_into
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def test_messages_that_come_with_pauses_are_sent_as_they_come(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)

    async def one_by_one() -> AsyncIterator[Outgoing]:
        for number in range(3):
            yield Outgoing(chat, str(number))
            await until(lambda: len(bodies(sandbox, chat)) == number + 1)  # noqa: B023 - waited for at once

    results = [result async for result in client.send_many(one_by_one(), journal=file)]

    assert [result.index for result in results] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_an_iterable_that_raises_does_so_after_the_results_of_what_it_gave(
    client: Client, sandbox: Sandbox, file: Path, kind: type[Source]
) -> None:
    seen: list[SendResult] = []
    addresses = chats(sandbox, 2)
    with pytest.raises(LookupError, match="no more patients"):
        await read_into(seen, client.send_many(kind(addresses, count=30, fails_at=20), journal=file))

    assert sorted(result.index or 0 for result in seen) == list(range(20))
    assert outcomes(seen) == [Outcome.DELIVERED] * 20


@pytest.mark.parametrize("has_journal", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_messages_that_end_in_a_cancellation_are_not_taken_for_all(
    client: Client, sandbox: Sandbox, file: Path, *, has_journal: bool, is_async: bool
) -> None:
    (chat,) = chats(sandbox, 1)
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    def messages() -> Iterator[Outgoing]:
        yield Outgoing(chat, "1")
        cancelled.result()

    async def later() -> AsyncIterator[Outgoing]:
        yield Outgoing(chat, "1")
        await cancelled

    seen: list[SendResult] = []
    options: Any = {"journal": file} if has_journal else {}
    async with asyncio.timeout(10):
        with pytest.raises(InvalidInputError, match="was cancelled"):
            await read_into(seen, client.send_many(later() if is_async else messages(), **options))

    assert [result.outcome for result in seen] == [Outcome.DELIVERED]


async def test_what_is_no_message_ends_it_after_the_earlier_results(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    seen: list[SendResult] = []
    wrong: Any = [Outgoing(chat, "1"), None, Outgoing(chat, "2")]

    with pytest.raises(InvalidInputError, match="Outgoing"):
        await read_into(seen, client.send_many(wrong, journal=file))

    assert outcomes(seen) == [Outcome.DELIVERED]
    assert bodies(sandbox, chat) == ["1"]


@pytest.mark.slow
async def test_whatever_goes_wrong_nothing_private_is_shown(
    sandbox: Sandbox, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    addresses = []
    faults: list[Fault] = [CutAfter(), CutBefore(), *map(AnswerStatus, (403, 404, 500))]
    for number, fault in enumerate(faults):
        sandbox.add_conversation(aux_id=f"c4nary{number}")
        addresses.append(f"aux/conversations/c4nary{number}")
        lose(sandbox, fault, addresses[-1])
    user = f"users/{sandbox.add_user('c4nary', 'c4nary')}"
    messages = [Outgoing(to, "c4nary", key=f"c4nary{to}") for to in [*addresses, user]]
    messages += [Outgoing("c4nary", "c4nary"), Outgoing(user, "c4nary", ["c4nary.pdf"])]
    messages += [Outgoing(user, "c4nary", key=f"c4nary{user}"), Outgoing(user, "c4nary\0")]

    async with fresh_client(sandbox) as client:
        for _ in range(2):
            results = await client.send_many(messages, journal=file, settle=0.1).all()
            assert outcomes(results).count(Outcome.NOT_SENT) == 6
            ours = "\n".join(record.getMessage() for record in caplog.records if "healthmsg" in record.name)
            assert "c4nary" not in ours
            for result in results:
                assert "c4nary" not in f"{result!r} {result.error!r} {result.error}".replace("c4nary.pdf", "")


async def test_a_file_that_is_gone_does_not_take_the_key_of_a_message_before_it(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    first = Outgoing(chat, "Dag", key="k")
    await client.send_many([first], journal=file).report()

    gone = Outgoing(chat, "Met brief", ["gone.pdf"], key="k")
    results = await client.send_many([first, gone], journal=file).all()

    assert {result.index: result.outcome for result in results} == {0: Outcome.DELIVERED, 1: Outcome.NOT_SENT}
    assert bodies(sandbox, chat) == ["Dag"]


@pytest.mark.parametrize(
    "refused",
    [Outgoing("conversations/c1", "Dag", key="a\0b"), Outgoing("conversations/a\0b", "Dag")],
)
async def test_a_nul_in_a_key_or_a_recipient_is_refused_alone(
    client: Client, sandbox: Sandbox, file: Path, refused: Outgoing
) -> None:
    (other,) = chats(sandbox, 1)
    results = await client.send_many([refused, Outgoing(other, "Dag")], journal=file).all()

    assert {result.index: result.outcome for result in results} == {0: Outcome.NOT_SENT, 1: Outcome.DELIVERED}
    (error,) = [result.error for result in results if result.error]
    assert isinstance(error, InvalidInputError)
    assert "NUL" in str(error)
