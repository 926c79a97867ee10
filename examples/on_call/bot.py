"""A duty bot with escalation: `healthmsg bot run examples.on_call.bot:bot`."""

import os
from datetime import timedelta
from typing import Final

from examples.on_call.roster import Person, Roster
from healthmsg.bot import (
    Bot,
    BotChat,
    ConfirmQuestion,
    Dialog,
    Dialogs,
    IncomingMessage,
    NoAnswer,
    Router,
    Stopped,
    command,
    in_group,
    mentioned,
)
from healthmsg.events import TimerDue
from healthmsg.models import User

router = Router("on call")

PATIENCE: Final = timedelta(minutes=5)
"""After that, the next one is called."""
SHIFTS: Final = ("08:00", "20:00")


@router.message(command("dienst", "duty", help="Wie heeft er nu dienst?"), in_group)
async def duty(message: IncomingMessage, roster: Roster) -> None:
    """Say who is on duty."""
    await message.reply(f"Dienst: {names(roster.on_duty(message.sent_at))}.")


@router.message(mentioned, in_group)
async def called(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Call who is on duty, with what was written to the bot."""
    await dialogs.start(call, message, message.text)


@router.dialog(stop=("stop", "ingetrokken"))
async def call(d: Dialog, what: str, roster: Roster) -> None:
    """Call one after the other until one goes."""
    people = await d.once(roster.on_duty, await d.now())
    try:
        for person in people:
            if await goes(d, person, what):
                await d.say(f"{person.name} gaat.")
                return
    except Stopped:
        await d.say("De oproep is ingetrokken.")
        return
    await d.say(f"Er gaat nog niemand. Bel {roster.backup}.")


async def goes(d: Dialog, person: Person, what: str) -> bool:
    """Ask one of them, in the group; no answer in time is a no."""
    question = ConfirmQuestion(f"[mention={person.id}] {what}", yes="Ik ga", no="Ik kan niet")
    try:
        answers = await d.ask_all([User(person.id)], question, key=f"call {person.id}", timeout=PATIENCE)
    except NoAnswer:
        await d.say(f"{person.name} antwoordt niet.")
        return False
    return answers[person.id]


async def announce(event: TimerDue, chat: BotChat, roster: Roster) -> None:
    """Say at the beginning of a shift who has it."""
    await chat.send(f"Vanaf nu heeft {names(roster.on_duty(event.due))} dienst.")


def names(people: list[Person]) -> str:
    """Return the names, in the order of the calls."""
    return ", dan ".join(person.name for person in people)


def set_up(bot: Bot, group: str | None = None) -> None:
    """Put everything into a bot; the roster is provided beside. `group` is where shifts are announced."""
    bot.include(router)
    if group is not None:
        bot.every(SHIFTS, do=announce, chat=group, name="shift")


def bot() -> Bot:
    """Return the bot."""
    made = Bot(store="on_call.db")
    made.provide(Roster(day=[Person("u-an", "An")], night=[Person("u-bo", "Bo")]))
    set_up(made, os.environ["ON_CALL_GROUP"])
    return made
