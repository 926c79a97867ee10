"""Reminders of appointments: each answer is noted once, with the appointment's key."""

from pathlib import Path

import pytest

from examples.appointments.agenda import FREE, Agenda
from examples.appointments.bot import set_up
from examples.appointments.reminders import QUESTION, reminders
from healthmsg.bot import Bot
from healthmsg.bot.testing import BotTest, Patient, StartBot

ROWS = Path(__file__).with_name("tomorrow.csv")


@pytest.fixture
def agenda() -> Agenda:
    """Return what the bot writes into."""
    return Agenda()


@pytest.fixture
async def bot_test(healthmsg_bot: StartBot, agenda: Agenda, tmp_path: Path) -> BotTest:
    """Run the bot."""

    def with_campaign(bot: Bot) -> None:
        bot.campaign(QUESTION, journal=tmp_path / "visits.db")

    return await healthmsg_bot(set_up, with_campaign, provide=[agenda])


@pytest.fixture
async def visser(bot_test: BotTest, tmp_path: Path) -> Patient:
    """Send the reminders; return the first patient."""
    patients = [bot_test.patient(f"P{n}", aux_id=f"P100{n}") for n in (1, 2, 3)]
    await bot_test.client.send_many(reminders(ROWS), journal=tmp_path / "visits.db").report()
    return patients[0]


async def test_a_patient_who_comes_is_noted_with_the_appointments_key(
    bot_test: BotTest, agenda: Agenda, visser: Patient
) -> None:
    assert visser.sees[-1].body.startswith("Beste mevrouw Visser, u hebt een afspraak op dinsdag")
    assert visser.sees[-1].options == ("Ik kom", "Ik wil verzetten", "Ik kom niet")
    await bot_test.advance(hours=20)
    await bot_test.kill_and_restart()

    await visser.presses("Ik kom")

    assert agenda.states == {"2026-03-03/1": "confirmed"}
    assert visser.sees[-1].body == "Fijn, tot dan."


async def test_a_double_tap_counts_once(agenda: Agenda, visser: Patient) -> None:
    await visser.presses("Ik kom niet")
    await visser.presses("Ik kom niet")

    assert agenda.states == {"2026-03-03/1": "cancelled"}
    assert [seen.body for seen in visser.sees[1:]] == ["Uw afspraak is afgezegd."]


async def test_an_appointment_is_moved_to_a_free_time(agenda: Agenda, visser: Patient) -> None:
    await visser.presses("Ik wil verzetten")
    agenda.moved_to["another"] = FREE[0]

    await visser.presses(FREE[0])
    assert "Die tijd is net vergeven." in [seen.body for seen in visser.sees]
    assert FREE[0] not in visser.sees[-1].options
    await visser.presses(FREE[1])

    assert agenda.moved_to["2026-03-03/1"] == FREE[1]
    assert visser.sees[-1].body == f"Uw afspraak is verzet naar {FREE[1]}."


async def test_one_who_does_not_choose_is_reminded_and_keeps_the_time(
    bot_test: BotTest, agenda: Agenda, visser: Patient
) -> None:
    await visser.presses("Ik wil verzetten")

    await bot_test.advance(hours=4)
    assert visser.sees[-1].body == "Herinnering: Wanneer komt het u uit?"
    await bot_test.advance(hours=20)

    assert visser.sees[-1].body == "Uw afspraak blijft zoals die was."
    assert agenda.states == {}
