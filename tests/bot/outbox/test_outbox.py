"""Replies that are sent once, as long as nothing dies."""

import asyncio
import logging
from pathlib import Path

import pytest

from healthmsg import DeliveryUnknownError, Option, Question, UploadFile
from healthmsg.bot.content import Content
from healthmsg.errors import (
    BadRequestError,
    InvalidInputError,
    NotFoundError,
    ReplyNotSentError,
    SendingStoppedError,
    StatusError,
)
from healthmsg.ids import ChatAddress
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Delay, Sandbox, TooManyRequests
from tests.bot.outbox.runs import bodies, chat_in, other_side, question, running, sizes, text
from tests.bulk.journal_runs import lose
from tests.bulk.sources import posts
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def test_a_reply_is_sent_once_however_often_it_is_asked_for(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, target) as run:
        first = await run.outbox.send("e/1", chat, text("Hallo"))
        again = await run.outbox.send("e/1", chat, text("Hallo"))
    async with running(sandbox, target) as run:
        after_restart = await run.outbox.send("e/1", chat, text("Hallo"))

    assert first == again == after_restart
    assert [message.id for message in sandbox.messages(chat)] == [first.id]
    assert posts(sandbox) == 1


async def test_equal_replies_under_two_keys_are_two(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file)) as run:
        sent = [await run.outbox.send(f"e/{number}", chat, text("Hallo")) for number in range(2)]

    assert [message.id for message in sandbox.messages(chat)] == [one.id for one in sent]


async def test_all_who_wait_for_a_key_get_the_same(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, Delay(0.1))

    async with running(sandbox, target) as run:
        sent = await asyncio.gather(*(run.outbox.send("e/1", chat, text("Hallo")) for _ in range(5)))

    assert len({one.id for one in sent}) == 1
    assert bodies(sandbox, chat) == ["Hallo"]


async def test_the_replies_of_a_chat_keep_their_order_and_those_of_others_do_not_wait(
    sandbox: Sandbox, target: str
) -> None:
    slow, other = chat_in(sandbox), chat_in(sandbox)
    lose(sandbox, Delay(0.3), slow.id)

    async with running(sandbox, target) as run:
        asked = [
            asyncio.ensure_future(run.outbox.send(f"slow/{number}", slow, text(str(number))))
            for number in range(5)
        ]
        await run.outbox.send("other/1", other, text("Hallo"))
        assert bodies(sandbox, slow) == []
        await asyncio.gather(*asked)

    assert bodies(sandbox, slow) == ["0", "1", "2", "3", "4"]


async def test_another_content_under_a_known_key_is_not_sent_and_is_named_without_its_text(
    sandbox: Sandbox, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat = chat_in(sandbox)

    with caplog.at_level(logging.WARNING):
        async with running(sandbox, target) as run:
            first = await run.outbox.send("e/1", chat, text("GEHEIM een"))
            assert await run.outbox.send("e/1", chat, text("GEHEIM twee")) == first

    assert bodies(sandbox, chat) == ["GEHEIM een"]
    assert "the first one stands (key e/1)" in caplog.text
    assert "GEHEIM" not in caplog.text


async def test_what_the_service_refuses_is_raised_now_and_not_tried_at_the_next_start(
    sandbox: Sandbox, target: str
) -> None:
    chat = ChatAddress.parse("conversations/geheim")

    async with running(sandbox, target) as run:
        with pytest.raises(NotFoundError):
            await run.outbox.send("e/1", chat, text("GEHEIM"))
    calls = posts(sandbox)
    async with running(sandbox, target) as run:
        with pytest.raises(ReplyNotSentError, match="NotFoundError") as error:
            await run.outbox.send("e/1", chat, text("GEHEIM"))

    assert posts(sandbox) == calls
    assert "geheim" not in str(error.value).lower()


async def test_what_the_service_refused_is_sent_on_request_with_what_is_wanted_by_then(
    sandbox: Sandbox, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, AnswerStatus(400))

    async with running(sandbox, target) as run:
        with pytest.raises(BadRequestError):
            await run.outbox.send("e/1", chat, text("een"))
        await run.outbox.send("e/2", chat, text("twee"))
    async with running(sandbox, target) as run:
        first = await run.outbox.send("e/1", chat, text("een, verbeterd"), retry_refused=True)
        again = await run.outbox.send("e/1", chat, text("een"), retry_refused=True)
        await run.outbox.send("e/2", chat, text("twee"), retry_refused=True)

    assert bodies(sandbox, chat) == ["twee", "een, verbeterd"]
    assert first == again
    assert not [one for one in caplog.records if "key e/2" in one.message]


async def test_a_refused_reply_does_not_stop_the_next_of_its_chat(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, AnswerStatus(400))

    async with running(sandbox, str(file)) as run:
        with pytest.raises(BadRequestError):
            await run.outbox.send("e/1", chat, text("een"))
        await run.outbox.send("e/2", chat, text("twee"))

    assert bodies(sandbox, chat) == ["twee"]


async def test_what_cannot_be_right_is_not_entered(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file)) as run:
        with pytest.raises(InvalidInputError):
            await run.outbox.send("e/1", chat, text("  "))
        await run.outbox.send("e/1", chat, text("Hallo"))

    assert bodies(sandbox, chat) == ["Hallo"]


async def test_a_reply_costs_two_transactions(sandbox: Sandbox, target: str) -> None:
    chat, count = chat_in(sandbox), 20

    async with running(sandbox, target) as run:
        await run.outbox.send("e/first", chat, text("Hallo"))
        before = run.store.transactions
        for number in range(count):
            await run.outbox.send(f"e/{number}", chat, text("Hallo"))
        each = (run.store.transactions - before) / count

    assert each == 2


async def test_nothing_grows_with_the_replies_that_were_sent(sandbox: Sandbox, file: Path) -> None:
    chats = [chat_in(sandbox) for _ in range(5)]

    async with running(sandbox, str(file)) as run:
        before = sizes(run.outbox)
        for number in range(20):
            await asyncio.gather(
                *(run.outbox.send(f"{number}/{chat.id}", chat, text("Hallo")) for chat in chats)
            )
        await until(lambda: sizes(run.outbox) == before)


# --- questions and files


async def test_a_question_is_sent_with_its_buttons_and_known_by_its_message(
    sandbox: Sandbox, target: str
) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, target) as run:
        sent = await run.outbox.send("e/1", chat, question("Komt u?"))
        found = await run.outbox.message_of(sent.id)
        nothing = await run.outbox.message_of("of another")

    assert found is not None
    assert (found.key, found.label, found.chat, nothing) == ("e/1", "visit", chat.text, None)
    assert sandbox.messages(chat)[0].payload is not None


async def test_an_answer_that_comes_before_the_response_to_its_question_is_understood(
    sandbox: Sandbox, target: str
) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)
    there = asyncio.get_running_loop().create_future()
    sandbox.on_message = there.set_result
    lose(sandbox, Delay(0.3, after=True))

    async with running(sandbox, target) as run:
        sending = asyncio.ensure_future(run.outbox.send("e/1", chat, question("Komt u?")))
        message_id = await there
        assert not sending.done()
        assert await run.outbox.message_of(message_id, other) is None
        found = await run.outbox.message_of(message_id, chat)
        await sending

    assert found is not None
    assert (found.key, found.message_id) == ("e/1", message_id)


async def test_files_are_sent_as_bytes_and_from_paths(sandbox: Sandbox, target: str, tmp_path: Path) -> None:
    chat, path = chat_in(sandbox), tmp_path / "brief.txt"
    path.write_bytes(b"van het pad")
    content = Content("Zie bijlage", files=[path, UploadFile(b"bytes", "b.txt")])

    async with running(sandbox, target) as run:
        first = await run.outbox.send("e/1", chat, content)
        assert await run.outbox.send("e/1", chat, content) == first

    (message,) = sandbox.messages(chat)
    assert [sandbox.file_content(one.id) for one in message.attachments] == [b"van het pad", b"bytes"]


async def test_a_question_with_files_is_refused(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    content = Content("?", Question([Option("Ja")]), [UploadFile(b"x", "x.txt")])

    async with running(sandbox, str(file)) as run:
        with pytest.raises(InvalidInputError):
            await run.outbox.send("e/1", chat, content)


# --- a service in trouble


async def test_after_an_outage_all_replies_are_sent_in_order(sandbox: Sandbox, target: str) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)

    async with running(sandbox, target) as run:
        offline = asyncio.ensure_future(sandbox.go_offline(1.5))
        await asyncio.sleep(0)
        asked = [
            asyncio.ensure_future(run.outbox.send(f"{chat.id}/{number}", chat, text(str(number))))
            for chat in (chat, other)
            for number in range(3)
        ]
        await until(lambda: run.outbox.paused_by)
        await asyncio.gather(offline, *asked)

    assert bodies(sandbox, chat) == bodies(sandbox, other) == ["0", "1", "2"]


async def test_what_was_sent_is_returned_also_while_the_service_is_away(
    sandbox: Sandbox, target: str
) -> None:
    chat = chat_in(sandbox)
    async with running(sandbox, target) as run:
        first = await run.outbox.send("e/1", chat, text("Hallo"))
    sandbox.faults.add(kind=CutBefore(), times=None)

    async with running(sandbox, target) as run, asyncio.timeout(5):
        waits = asyncio.ensure_future(run.outbox.send("e/2", chat, text("Daar")))
        await until(lambda: run.outbox.paused_by or posts(sandbox) > 1)
        assert await run.outbox.send("e/1", chat, text("Hallo")) == first
        waits.cancel()


async def test_too_many_calls_are_waited_for(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, TooManyRequests(retry_after=1), times=2)

    async with running(sandbox, str(file)) as run:
        await run.outbox.send("e/1", chat, text("Hallo"))

    assert bodies(sandbox, chat) == ["Hallo"]


async def test_a_response_that_was_lost_is_found_and_the_reply_not_sent_again(
    sandbox: Sandbox, target: str
) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, CutAfter())

    async with running(sandbox, target) as run:
        sent = await run.outbox.send("e/1", chat, text("Hallo"))
        assert await run.outbox.unknown() == []

    assert [message.id for message in sandbox.messages(chat)] == [sent.id]


async def test_a_call_that_was_lost_is_made_again_before_the_next_of_its_chat(
    sandbox: Sandbox, target: str
) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, target, settle=0.3) as run:
        await run.outbox.send("e/0", chat, text("0"))
        lose(sandbox, CutBefore())
        await asyncio.gather(*(run.outbox.send(f"e/{n}", chat, text(str(n))) for n in (1, 2)))

    assert bodies(sandbox, chat) == ["0", "1", "2"]


async def test_what_cannot_be_proven_is_unknown_and_never_sent_again(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, CutBefore())

    async with running(sandbox, target) as run:  # no message is known that could prove the search
        with pytest.raises(DeliveryUnknownError):
            await run.outbox.send("e/1", chat, text("GEHEIM"))
        calls = posts(sandbox)
        with pytest.raises(DeliveryUnknownError):
            await run.outbox.send("e/1", chat, text("GEHEIM"))
        (row,) = await run.outbox.unknown()
        await run.outbox.send("e/2", chat, text("Daar"))
    async with running(sandbox, target) as run:
        with pytest.raises(DeliveryUnknownError, match="not sent again") as error:
            await run.outbox.send("e/1", chat, text("GEHEIM"))

    assert row.key == "e/1"
    assert bodies(sandbox, chat) == ["Daar"]
    assert posts(sandbox) == calls + 1
    assert "GEHEIM" not in f"{error.value}{row!r}"


@pytest.mark.slow
async def test_a_reply_that_is_lost_each_time_is_given_up_as_not_sent(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file), settle=0.0) as run:
        await run.outbox.send("e/0", chat, text("0"))
        lose(sandbox, AnswerStatus(500), times=20)
        with pytest.raises((ReplyNotSentError, StatusError)):
            await run.outbox.send("e/1", chat, text("1"))

    assert bodies(sandbox, chat) == ["0"]


# --- verification


async def test_a_verification_is_asked_for_once(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, target) as run:
        other = await other_side(run, chat)
        providers = await run.client.users.providers(other)
        first = await run.outbox.request_verification("e/1", chat, other, providers[0])
        again = await run.outbox.request_verification("e/1", chat, other, providers[0].provider_id)
        found = await run.outbox.message_of(first.id)

    assert first == again
    assert found is not None
    assert found.key == "e/1"
    assert [message.id for message in sandbox.messages(chat)] == [first.id]


async def test_a_verification_whose_response_was_lost_is_unknown(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)
    sandbox.faults.add(kind=CutAfter(), method="POST", path_contains="/verification")

    async with running(sandbox, target) as run:
        other = await other_side(run, chat)
        (provider, *_) = await run.client.users.providers(other)
        with pytest.raises(DeliveryUnknownError, match="no text"):
            await run.outbox.request_verification("e/1", chat, other, provider)
        await run.outbox.send("e/2", chat, text("Daarna"))

    assert len(sandbox.messages(chat)) == 2


# --- the end


async def test_a_caller_that_is_cancelled_leaves_its_reply_to_be_sent(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, Delay(0.2))

    async with running(sandbox, target) as run:
        caller = asyncio.ensure_future(run.outbox.send("e/1", chat, text("Hallo")))
        await until(lambda: posts(sandbox))
        caller.cancel()
        sent = await run.outbox.send("e/1", chat, text("Hallo"))

    assert [message.id for message in sandbox.messages(chat)] == [sent.id]


async def test_what_waits_when_the_outbox_closes_is_sent_when_it_is_asked_for_again(
    sandbox: Sandbox, target: str
) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, Delay(0.2), chat.id)

    async with running(sandbox, target) as run:
        asked = [
            asyncio.ensure_future(run.outbox.send(f"e/{number}", chat, text(str(number))))
            for number in range(3)
        ]
        await until(lambda: posts(sandbox))
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(ended[1], SendingStoppedError)
    assert bodies(sandbox, chat) == ["0"]
    async with running(sandbox, target) as run:
        again = [await run.outbox.send(f"e/{number}", chat, text(str(number))) for number in range(3)]

    assert again[0] == ended[0]
    assert bodies(sandbox, chat) == ["0", "1", "2"]


async def test_after_the_end_nothing_is_taken(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file)) as run:
        await run.outbox.close()
        with pytest.raises(SendingStoppedError):
            await run.outbox.send("e/1", chat, text("Hallo"))

    assert bodies(sandbox, chat) == []


async def test_in_a_new_store_the_reply_to_another_chat_proves_an_absence_though_it_comes_later(
    sandbox: Sandbox, file: Path
) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)
    lose(sandbox, CutBefore())

    async with running(sandbox, str(file), settle=0.5) as run:
        first = asyncio.ensure_future(run.outbox.send("e/1", chat, text("Hallo")))
        await until(lambda: run.outbox._proofs.waiting or first.done())
        await run.outbox.send("e/2", other, text("Verder"))
        await first
        assert await run.outbox.unknown() == []

    assert bodies(sandbox, chat) == ["Hallo"]
    assert bodies(sandbox, other) == ["Verder"]
