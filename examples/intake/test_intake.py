"""The intake: a nurse takes over where it hurts, and the bot is silent until the chat is given back."""

from pathlib import Path

import pytest

from examples.intake.bot import BACK, Nurses, set_up
from examples.intake.records import Records
from healthmsg.bot import Bot
from healthmsg.bot.testing import BotTest, Group, Patient, StartBot


@pytest.fixture
def records() -> Records:
    """Return where the intakes go."""
    return Records()


@pytest.fixture
def chats() -> list[str]:
    """Return the nurses' chat: empty until there is one."""
    return []


@pytest.fixture
async def bot_test(healthmsg_bot: StartBot, records: Records, chats: list[str], tmp_path: Path) -> BotTest:
    """Run the bot."""

    def with_nurses(bot: Bot) -> None:
        bot.provide(Nurses(chats[0] if chats else "", tmp_path / "nurses.db"))

    return await healthmsg_bot(set_up, with_nurses, provide=[records])


@pytest.fixture
async def cees(bot_test: BotTest) -> Patient:
    """Return a nurse."""
    return bot_test.colleague("Cees")


@pytest.fixture
async def nurses(bot_test: BotTest, cees: Patient, chats: list[str]) -> Group:
    """Make the nurses' chat, and let the bot know it."""
    group = bot_test.group("Verpleegkundigen", cees)
    chats.append(group.address)
    await bot_test.kill_and_restart()
    return group


async def fill_in(an: Patient, pain: str) -> None:
    """Answer everything."""
    await an.says("intake")
    await an.answers("An Visser")
    await an.answers("7-8-1980")
    await an.answers("Mijn knie")
    await an.answers(pain)


async def test_with_little_pain_the_bot_does_it_alone(
    records: Records, nurses: Group, bot_test: BotTest
) -> None:
    an = bot_test.patient("An")

    await fill_in(an, "3")

    assert an.sees[-1].body == "Dank u wel. Uw intake is compleet."
    assert [record.pain for record in records.all] == [3]
    assert nurses.sees == []


async def test_with_much_pain_a_nurse_takes_over_and_gives_back(
    records: Records, nurses: Group, cees: Patient, bot_test: BotTest
) -> None:
    an = bot_test.patient("An")
    await fill_in(an, "8")
    assert an.sees[-1].body == "Een verpleegkundige leest mee en antwoordt u hier."
    (call,) = nurses.sees
    assert call.body.startswith("Pijn 8, intake 1. Klaar? Typ: terug ")
    await bot_test.kill_and_restart()

    await an.says("Hallo?")
    assert an.sees[-1].body == "Een verpleegkundige leest mee en antwoordt u hier."
    await cees.says(call.body.partition("Typ: ")[2], group=nurses)

    assert nurses.sees[-1].body == "Ik ga daar verder."
    assert an.sees[-1].body == "Dank u wel. Uw intake is compleet."
    assert len(records.all) == 1


async def test_only_the_nurses_can_give_a_chat_back(nurses: Group, bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    other = bot_test.group("Anderen", an)
    await fill_in(an, "8")

    await an.says(f"{BACK}{an.address} {an.id}", group=other)

    assert other.sees == []
    assert an.sees[-1].body == "Een verpleegkundige leest mee en antwoordt u hier."


async def test_one_who_does_not_answer_is_reminded_and_then_handed_over(
    nurses: Group, bot_test: BotTest
) -> None:
    an = bot_test.patient("An")
    await an.says("intake")

    await bot_test.advance(hours=4)
    assert an.sees[-1].body == "Herinnering: Wat is uw naam?"
    await bot_test.advance(hours=20)

    assert nurses.sees[-1].body.startswith("De intake is niet afgemaakt.")


async def test_a_patient_can_go_back_and_stop(nurses: Group, bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await an.says("intake")
    await an.answers("An Visser")
    assert an.sees[-1].body == "Wat is uw geboortedatum?"

    await an.says("terug")
    assert an.sees[-1].body == "Wat is uw naam?"
    await an.says("stop")

    assert an.sees[-1].body == "Gestopt. Typ *intake* om opnieuw te beginnen."
    assert nurses.sees == []
