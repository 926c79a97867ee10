"""A chat and a user that are given together: it is proven that the user is there before anything begins."""

from datetime import timedelta

import pytest

from healthmsg.bot import Bot, BotChat, Dialog, DialogRequest, Dialogs, IncomingMessage, Router, text
from healthmsg.bot.places import Places
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.bot.virtual_clock import START
from healthmsg.errors import CallError, InvalidInputError, NotFoundError
from healthmsg.events import TimerDue
from healthmsg.ids import ChatAddress
from healthmsg.sandbox import AnswerStatus
from tests.bot.routing import NOON, message

router = Router()


@router.dialog
async def results(d: Dialog) -> None:
    await d.say("Uitslag van An")


@router.message(text(prefix="begin "))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    chat, _, user = message.text.removeprefix("begin ").partition(" ")
    await dialogs.start(results, (chat, user))


@router.message(text("zelf"))
async def begin_here(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(results, message)


def addresses_of(patient: Patient) -> list[str]:
    return [patient.address, f"conversations/{patient.id}", "aux/conversations/bo"]


def reads(bot_test: BotTest) -> int:
    """Return how often the service was asked which chat something is, or who is in it."""
    asked = {
        *(("GET", f"{chat}/{{id}}") for chat in ("conversations", "groupchats")),
        ("GET", "aux/conversations/{aux_id}"),
        ("GET", "groupchats/{id}/members"),
        ("POST", "conversations"),
    }
    return sum((call.method, call.template) in asked for call in bot_test.sandbox.calls)


@pytest.mark.parametrize("by", [0, 1, 2], ids=["conversation", "user", "auxiliary id"])
async def test_no_dialog_begins_with_a_user_in_another_ones_conversation(
    healthmsg_bot: StartBot, by: int
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo", aux_id="bo")
    chat = addresses_of(bo)[by]

    with pytest.raises(InvalidInputError, match="not in this chat") as caught:
        await bot_test.bot.start_dialog(
            DialogRequest(dialog="results", user=an.id, chat=ChatAddress.parse(chat))
        )
    assert an.id not in str(caught.value)
    with pytest.raises(InvalidInputError, match="not in this chat"):
        await bot_test.bot.schedule(
            DialogRequest(dialog="results", user=an.id, chat=ChatAddress.parse(chat)),
            {"at": bot_test.clock.now().isoformat()},
        )
    await an.says(f"begin {chat} {an.id}")
    await bot_test.advance(minutes=2)

    assert not bo.sees
    assert not an.sees
    assert [one.reason.split(" raised ")[-1].split(" at ")[0] for one in bot_test.parked] == [
        "InvalidInputError"
    ]


@pytest.mark.parametrize("by", [0, 1, 2], ids=["conversation", "user", "auxiliary id"])
async def test_one_begins_with_its_own_user_however_it_is_addressed(healthmsg_bot: StartBot, by: int) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo", aux_id="bo")
    await an.says(f"begin {addresses_of(bo)[by]} {bo.id}")
    assert [seen.body for seen in bo.sees] == ["Uitslag van An"]


@pytest.mark.parametrize("by", [0, 1, 2], ids=["conversation", "user", "auxiliary id"])
async def test_one_call_says_where_a_chat_is_and_who_is_in_it(healthmsg_bot: StartBot, by: int) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo", aux_id="bo")
    await an.says("hallo")  # the chat is new to the stream, which reads it
    before = reads(bot_test)
    await an.says(f"begin {addresses_of(bo)[by]} {bo.id}")
    assert [seen.body for seen in bo.sees] == ["Uitslag van An"]
    assert reads(bot_test) == before + 1


async def test_in_a_group_a_dialog_is_with_a_member_of_that_moment(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    team = bot_test.group("Team", an)
    chat = ChatAddress.parse(team.address)
    with pytest.raises(InvalidInputError, match="member of a group"):
        await bot_test.bot.start_dialog(DialogRequest(dialog="results", user=bo.id, chat=chat))
    await bot_test.client.groupchats(chat.id).add_members([bo.id])
    await bot_test.bot.start_dialog(DialogRequest(dialog="results", user=bo.id, chat=chat))
    await bot_test.client.groupchats(chat.id).remove_members([bo.id])
    with pytest.raises(InvalidInputError, match="member of a group"):
        await bot_test.bot.start_dialog(DialogRequest(dialog="results", user=bo.id, chat=chat))


async def test_what_is_known_already_costs_no_call(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo, cor = (bot_test.patient(name) for name in ("An", "Bo", "Cor"))
    await an.says("hallo")  # the chat is new to the stream, which reads it
    before = reads(bot_test)
    await an.says("zelf")
    assert reads(bot_test) == before

    chat = ChatAddress.parse(bo.address)
    for _ in range(3):
        await bot_test.bot.start_dialog(DialogRequest(dialog="results", user=bo.id, chat=chat))
    assert reads(bot_test) == before + 1

    started = await bot_test.client.conversations.start(cor.id)
    before = reads(bot_test)
    await bot_test.bot.start_dialog(DialogRequest(dialog="results", user=cor.id, chat=started.address))
    assert reads(bot_test) == before


async def test_an_event_shows_only_its_own_user_in_its_own_chat(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    places = Places(bot_test.client)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    chat, other = ChatAddress.parse(an.address), ChatAddress.parse(bo.address)
    event = message("hallo", chat, an.id)
    before = reads(bot_test)
    assert await places.prove(chat, an.id, event) == chat
    assert reads(bot_test) == before
    for refused in (
        (other, an.id, event),
        (chat, bo.id, event),
        (other, an.id, TimerDue(id="t", received_at=NOON, timer="t", due=NOON, chat=other, user_id=an.id)),
    ):
        with pytest.raises(InvalidInputError, match="not in this chat"):
            await places.prove(*refused)


async def test_only_so_many_places_are_kept(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    places = Places(bot_test.client, most=2)
    for _ in range(3):
        patient = bot_test.patient("An")
        await places.prove(ChatAddress.parse(patient.address), patient.id)
    assert repr(places) == "<Places 2>"


async def test_where_the_service_does_not_say_nothing_is_begun(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    request = DialogRequest(dialog="results", user=an.id, chat=ChatAddress.parse(an.address))
    bot_test.sandbox.faults.add(kind=AnswerStatus(400), method="GET", times=1)
    with pytest.raises(CallError):
        await bot_test.bot.start_dialog(request)
    with pytest.raises(NotFoundError):
        await bot_test.bot.start_dialog(
            DialogRequest(dialog="results", user=an.id, chat=ChatAddress.parse("conversations/none"))
        )
    assert not an.sees
    await bot_test.bot.start_dialog(request)
    assert len(an.sees) == 1


async def test_a_scheduled_dialog_whose_user_is_not_in_the_chat_when_it_is_due_is_refused_and_kept(
    healthmsg_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    request = DialogRequest(dialog="results", user=an.id, chat=ChatAddress.parse(bo.address))
    bot_test.sandbox.faults.add(kind=AnswerStatus(400), method="GET", times=1)
    due = bot_test.clock.now() + timedelta(hours=1)
    await bot_test.bot.schedule(request, {"at": due.isoformat()})
    await bot_test.advance(hours=2)

    assert not an.sees
    assert not bo.sees
    (parked,) = await bot_test.bot.parked()
    assert "the schedule results: this user is not in this chat" in parked.reason
    assert "the schedule results is refused" in caplog.text
    assert an.id not in caplog.text


@pytest.mark.parametrize("kind", ["dialog", "handler"])
async def test_a_schedule_of_the_code_is_proven_too(healthmsg_bot: StartBot, kind: str) -> None:
    people = list[Patient]()

    async def remind(event: TimerDue, chat: BotChat) -> None:
        await chat.send("Uitslag van An")

    def set_up(bot: Bot) -> None:
        do = results if kind == "dialog" else remind
        for number, user in enumerate(people):
            moment = START + timedelta(hours=1)
            bot.at(moment, do, chat=people[0].address, user=user.id, name=f"{number}")

    bot_test = await healthmsg_bot(router, set_up, allow_parked=True)
    people += [bot_test.patient("An"), bot_test.patient("Bo")]
    await bot_test.kill_and_restart()
    await bot_test.advance(hours=2)

    assert [seen.body for seen in people[0].sees] == ["Uitslag van An"]
    assert [one.reason.partition(":")[0] for one in bot_test.parked] == ["the schedule 1"]
