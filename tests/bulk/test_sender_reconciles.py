"""What becomes of messages that may have been delivered: over the sandbox and in fake time."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from healthmsg import (
    Client,
    DeliveryUnknownError,
    InvalidInputError,
    Option,
    Outcome,
    Outgoing,
    Question,
    QuestionPayload,
    Reconciled,
    Retries,
    SendMany,
    SendResult,
    UploadFile,
)
from healthmsg.delivery.proof import attempt_of
from healthmsg.errors import SendingStoppedError
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Delay, Fault, Sandbox
from tests.bulk.sources import bodies, chats, posts

pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=3),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]


def now() -> float:
    return asyncio.get_running_loop().time()


def lose(sandbox: Sandbox, fault: Fault, chat: str = "", times: int | None = 1) -> None:
    sandbox.faults.add(kind=fault, method="POST", path_contains=f"{chat}/messages", times=times)


async def prove(client: Client, sandbox: Sandbox) -> None:
    """Deliver something, so that the search can be proven."""
    await client.conversations(sandbox.add_conversation()).send("Iets anders")


async def sent(client: Client, *messages: Outgoing, **options: Any) -> list[SendResult]:
    run: SendMany = client.send_many(messages, **options)
    return await run.all()


# --- in a bulk run


async def test_what_was_delivered_is_found_and_not_sent_again(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    await client.me.get()  # which tells the time
    lose(sandbox, CutAfter())
    began = now()
    (result,) = await sent(client, Outgoing(chat, "Hallo", key="k"))
    (message,) = sandbox.messages(chat)
    assert result == SendResult("k", chat, Outcome.DELIVERED, message_id=message.id, attempts=1, index=0)
    assert now() - began < 5


@pytest.mark.parametrize("fault", [CutBefore(), AnswerStatus(500), AnswerStatus(503)])
async def test_what_is_proven_not_to_have_been_delivered_is_sent_again_and_once(
    client: Client, sandbox: Sandbox, fault: Fault
) -> None:
    lost, other = chats(sandbox, 2)
    lose(sandbox, fault, lost)
    began = now()
    results = await sent(client, Outgoing(other, "Hallo"), Outgoing(lost, "Hallo"))
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 2
    assert [result.attempts for result in results] == [1, 2]
    assert bodies(sandbox, lost) == ["Hallo"]
    assert 90 < now() - began < 110


async def test_absence_proves_nothing_while_nothing_is_known_to_be_found(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, CutBefore())
    (result,) = await sent(client, Outgoing(chat, "Hallo"), settle=1)
    assert result.outcome is Outcome.UNKNOWN
    assert isinstance(result.error, DeliveryUnknownError)
    assert posts(sandbox) == 1


async def test_what_never_arrives_is_not_sent_for_ever(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    await prove(client, sandbox)
    lose(sandbox, CutBefore(), chat, times=None)
    (result,) = await sent(client, Outgoing(chat, "Hallo"), settle=1)
    assert (result.outcome, result.attempts) == (Outcome.NOT_SENT, 6)
    assert isinstance(result.error, DeliveryUnknownError)
    assert bodies(sandbox, chat) == []


async def test_later_messages_of_the_chat_wait_and_other_chats_go_on(
    client: Client, sandbox: Sandbox
) -> None:
    lost, *others = chats(sandbox, 40)
    await prove(client, sandbox)
    lose(sandbox, CutBefore(), lost)
    messages = [
        Outgoing(lost, "1"),
        Outgoing(lost, "2"),
        *(Outgoing(to, "x") for to in others),
        Outgoing(lost, "3"),
    ]
    began = now()
    ended = [(result.to, result.outcome, now() - began) async for result in client.send_many(messages)]
    assert {outcome for _, outcome, _ in ended} == {Outcome.DELIVERED}
    assert bodies(sandbox, lost) == ["1", "2", "3"]
    assert all((took > 90) == (to == lost) for to, _, took in ended)


@pytest.mark.slow
async def test_any_number_in_doubt_does_not_keep_others_from_being_sent(
    client: Client, sandbox: Sandbox
) -> None:
    lost, others = chats(sandbox, 200), chats(sandbox, 20)
    await prove(client, sandbox)
    for chat in lost:
        lose(sandbox, CutBefore(), chat)
    began, quick = now(), 0
    # Not one after the other: that would look as if nothing got through to anybody.
    mixed = [to for n, other in enumerate(others) for to in (*lost[n * 10 : n * 10 + 10], other)]
    async for result in client.send_many(Outgoing(to, "x") for to in mixed):
        assert result.outcome is Outcome.DELIVERED
        quick += result.to in others and now() - began < 60
    assert quick == 20


async def test_two_equal_messages_that_both_may_have_been_delivered_are_told_apart(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    await client.conversations(chat.partition("/")[2]).send("Hallo")
    await asyncio.sleep(60)
    lose(sandbox, CutAfter(), times=2)
    results = await sent(client, *[Outgoing(chat, "Hallo")] * 3)
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 3
    messages = sandbox.messages(chat)
    assert [result.message_id for result in results] == [message.id for message in messages[1:]]


async def test_a_text_that_was_there_before_is_not_taken_for_the_new_one(
    client: Client, sandbox: Sandbox
) -> None:
    chat = f"conversations/{sandbox.add_conversation(messages=['Hallo'])}"
    await asyncio.sleep(60)
    await prove(client, sandbox)
    lose(sandbox, CutBefore(), chat)
    (result,) = await sent(client, Outgoing(chat, "Hallo"))
    assert result.outcome is Outcome.DELIVERED
    assert bodies(sandbox, chat) == ["Hallo", "Hallo"]


async def test_who_leaves_does_not_wait_for_certainty(client: Client, sandbox: Sandbox) -> None:
    lost, other = chats(sandbox, 2)
    await prove(client, sandbox)
    lose(sandbox, CutBefore(), lost)
    began = now()
    run = client.send_many([Outgoing(lost, "1"), Outgoing(lost, "2"), Outgoing(other, "3")])
    async with run:
        assert (await anext(aiter(run))).to == other
        await asyncio.sleep(5)
    assert now() - began < 10
    first, second = [result async for result in run]
    assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.NOT_SENT)
    assert isinstance(first.error, DeliveryUnknownError)
    assert isinstance(second.error, SendingStoppedError)


async def test_a_chat_that_cannot_be_read_leaves_it_unknown(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, CutAfter())
    sandbox.faults.add(kind=AnswerStatus(403), method="GET", path_contains="/messages", times=None)
    (result,) = await sent(client, Outgoing(chat, "Hallo"))
    assert result.outcome is Outcome.UNKNOWN
    assert bodies(sandbox, chat) == ["Hallo"]


@pytest.mark.looptime(False)  # files are read in threads, which no fake clock waits for
async def test_files_are_looked_for_too(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    await client.me.get()
    sandbox.faults.add(kind=CutAfter(), method="POST", path_contains="/attachments")
    (result,) = await sent(client, Outgoing(chat, "", [UploadFile(b"%PDF", "a.pdf")]))
    assert result.outcome is Outcome.DELIVERED
    assert len(sandbox.messages(chat)) == 1


@pytest.mark.parametrize("options", [{"settle": -1}, {"settle": "90"}, {"on_unknown": "guess"}])
async def test_an_option_that_cannot_be_right_is_refused(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        client.send_many([], **options)


# --- to whom, and what


async def test_a_users_conversation_is_started_once(client: Client, sandbox: Sandbox) -> None:
    user = sandbox.add_user("An", "Visser")
    results = await sent(client, *(Outgoing(f"users/{user}", str(number)) for number in range(5)))
    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    starts = [call for call in sandbox.calls if (call.method, call.template) == ("POST", "conversations")]
    assert len(starts) == 1
    conversation = sandbox.store.conversation_between(
        sandbox.store.people[sandbox.user_id], sandbox.store.people[user]
    )
    assert conversation is not None
    assert bodies(sandbox, f"conversations/{conversation.id}") == ["0", "1", "2", "3", "4"]


async def test_a_conversation_that_may_not_have_been_started_has_no_message(
    client: Client, sandbox: Sandbox
) -> None:
    user = sandbox.add_user("An", "Visser")
    sandbox.faults.add(kind=CutAfter(), method="POST", template="conversations")
    first, second = await sent(client, Outgoing(f"users/{user}", "1"), Outgoing(f"users/{user}", "2"))
    assert (first.outcome, second.outcome) == (Outcome.NOT_SENT, Outcome.DELIVERED)


async def test_a_question_can_be_sent_and_has_no_files(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    question = Question([Option("Ja"), Option("Nee")], multi_answer=True)
    asked, refused = await sent(
        client,
        Outgoing(chat, "Komt u?", question=question),
        Outgoing(chat, "Komt u?", [UploadFile(b"x", "a.txt")], question=question),
    )
    assert asked.outcome is Outcome.DELIVERED
    (message,) = sandbox.messages(chat)
    assert isinstance(message.payload, QuestionPayload)
    assert [option.label for option in message.payload.options] == ["Ja", "Nee"]
    assert (refused.outcome, refused.attempts) == (Outcome.NOT_SENT, 0)


# --- of a single message


async def unclear(client: Client, chat: str, text: str = "Hallo") -> DeliveryUnknownError:
    with pytest.raises(DeliveryUnknownError) as caught:
        await client.conversations(chat.partition("/")[2]).send(text)
    return caught.value


@pytest.mark.looptime(False)
async def test_a_single_message_that_was_delivered_is_found(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, CutAfter())
    error = await unclear(client, chat)
    (message,) = sandbox.messages(chat)
    found = Reconciled(Outcome.DELIVERED, message.id)
    for copy in (pickle.loads(pickle.dumps(error)), error):  # noqa: S301 - our own
        assert copy.attempt == error.attempt
    assert await client.reconcile(error) == found


async def test_a_single_message_that_was_not_delivered_is_proven_absent(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    await prove(client, sandbox)
    lose(sandbox, CutBefore(), chat)
    error = await unclear(client, chat)
    began = now()
    assert await client.reconcile(error, settle=30) == Reconciled(Outcome.NOT_SENT)
    assert 29 < now() - began < 40
    assert bodies(sandbox, chat) == []


async def test_what_was_found_for_an_error_is_found_again(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    await prove(client, sandbox)
    lose(sandbox, CutAfter(), chat)
    error = await unclear(client, chat)
    found = await asyncio.gather(client.reconcile(error), client.reconcile(error))
    assert {one.outcome for one in [*found, await client.reconcile(error)]} == {Outcome.DELIVERED}


@pytest.mark.looptime(False)  # the journal is written in a thread
@pytest.mark.parametrize("by_error_first", [True, False])
async def test_an_error_and_its_journal_do_not_take_one_message_for_two(
    client: Client, sandbox: Sandbox, tmp_path: Path, by_error_first: bool
) -> None:
    chat, other = chats(sandbox, 2)
    lose(sandbox, CutAfter(), chat)
    sandbox.faults.add(kind=CutBefore(), method="GET", path_contains=chat, times=None)
    messages = [Outgoing(other, "Hallo", key="a"), Outgoing(chat, "Uw afspraak is bevestigd.", key="b")]
    options: dict[str, Any] = {"journal": tmp_path / "journal.db", "settle": 0.5}
    async with client.send_many(messages, **options) as run:
        async for _ in run:
            while not bodies(sandbox, chat):  # noqa: ASYNC110 - the sandbox has no event for it
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            break
    (left,) = [result async for result in run]
    assert isinstance(left.error, DeliveryUnknownError)
    sandbox.faults.clear()
    if by_error_first:
        assert (await client.reconcile(left.error, settle=0.5)).outcome is Outcome.DELIVERED
    report = await client.send_many(messages, **options).report()
    assert report.delivered == 2
    assert len(bodies(sandbox, chat)) == 1
    assert (await client.reconcile(left.error, settle=0.5)).outcome is Outcome.DELIVERED


async def test_what_a_view_has_sent_another_user_cannot_look_for(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    await client.me.get()
    lose(sandbox, CutAfter())
    error = await unclear(client.with_options(retries=Retries.none()), chat)
    with pytest.raises(InvalidInputError, match="another user's"):
        await client.with_token(sandbox.issue_token(sandbox.add_user("An", "Visser"))).reconcile(error)
    assert (await client.reconcile(error)).outcome is Outcome.DELIVERED


async def test_an_error_that_is_not_about_a_message_is_refused(client: Client, sandbox: Sandbox) -> None:
    group = sandbox.add_group_chat("Wijkteam")
    sandbox.faults.add(kind=CutAfter(), method="DELETE")
    with pytest.raises(DeliveryUnknownError) as caught:
        await client.groupchats(group).remove_members([sandbox.user_id])
    with pytest.raises(InvalidInputError, match="not about a message"):
        await client.reconcile(caught.value)


async def test_what_is_needed_to_find_out_shows_nothing_private(client: Client, sandbox: Sandbox) -> None:
    sandbox.add_conversation(aux_id="patient 7")
    lose(sandbox, CutAfter())
    with pytest.raises(DeliveryUnknownError) as caught:
        await client.auxiliary.conversations("patient 7").send("canary")
    error = caught.value
    attempt = attempt_of(error)
    assert attempt is not None
    for shown in (repr(error.attempt), repr(error), str(error), repr(attempt.chat)):
        assert "canary" not in shown
        assert "patient" not in shown


async def test_of_two_equal_messages_one_that_arrived_is_not_taken_for_both(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    await prove(client, sandbox)
    lose(sandbox, CutAfter())
    lose(sandbox, CutBefore())
    errors = await asyncio.gather(unclear(client, chat), unclear(client, chat))
    found = await asyncio.gather(*(client.reconcile(error) for error in errors))
    assert {one.outcome for one in found} == {Outcome.DELIVERED, Outcome.NOT_SENT}
    assert bodies(sandbox, chat) == ["Hallo"]


async def test_a_message_that_is_on_its_way_is_not_taken_for_an_equal_one_that_was_lost(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    await prove(client, sandbox)
    lose(sandbox, CutBefore())
    error = await unclear(client, chat)
    lose(sandbox, Delay(20, after=True))
    sending = asyncio.create_task(client.conversations(chat.partition("/")[2]).send("Hallo"))
    while not bodies(sandbox, chat):  # noqa: ASYNC110 - the sandbox has no event for it
        await asyncio.sleep(0.1)
    assert (await client.reconcile(error, settle=1)).outcome is Outcome.UNKNOWN
    await sending
    assert (await client.reconcile(error)).outcome is Outcome.NOT_SENT
