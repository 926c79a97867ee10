"""An intake that hands over to a nurse: `healthmsg bot run examples.intake.bot:bot`."""

import os
from datetime import date, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from attrs import frozen

from examples.intake.records import Record, Records
from healthmsg import Client, Outgoing
from healthmsg.bot import (
    Bot,
    Dialog,
    Dialogs,
    IncomingMessage,
    NoAnswer,
    Router,
    Stopped,
    TooManyTries,
    command,
    in_conversation,
    in_group,
    text,
)

router = Router("intake")

URGENT: Final = 7
"""From this much pain on, a nurse takes over."""
REMIND: Final = timedelta(hours=4)
TIMEOUT: Final = timedelta(days=1)
BACK: Final = "terug "


@frozen
class Nurses:
    """The group chat of the nurses, and the journal of what is sent there."""

    chat: str
    journal: Path = Path("nurses.db")


@router.message(command("intake", "start", help="Een intake beginnen"), in_conversation)
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Begin the intake."""
    await dialogs.start(intake, message)


@router.message(text(prefix=BACK), in_group)
async def give_back(message: IncomingMessage, dialogs: Dialogs, nurses: Nurses) -> None:
    """Give a patient's chat back to the bot: a nurse writes *terug*, and what the bot has named the chat."""
    chat, _, user = message.text.removeprefix(BACK).partition(" ")
    if message.chat.address.text == nurses.chat:
        found = await dialogs.take_back((chat, user))
        await message.reply("Ik ga daar verder." if found else "Daar is niets overgedragen.")


@router.dialog(stop=("stop", "stoppen"), back=("terug",))
async def intake(d: Dialog, records: Records, nurses: Nurses, client: Client) -> None:
    """Ask what a nurse needs to know; with much pain, or without an answer, a nurse takes over."""
    try:
        record = await ask(d)
    except Stopped:
        await d.say("Gestopt. Typ *intake* om opnieuw te beginnen.")
        return
    except (NoAnswer, TooManyTries):
        await hand_over(d, client, nurses, "De intake is niet afgemaakt.")
        return
    number = await d.once(records.add, record, key="record")
    if record.pain >= URGENT:
        await d.say("Een verpleegkundige leest mee en antwoordt u hier.")
        await hand_over(d, client, nurses, f"Pijn {record.pain}, intake {number}.")
    await d.say("Dank u wel. Uw intake is compleet.")


async def ask(d: Dialog) -> Record:
    """Ask everything."""
    name = await d.text("Wat is uw naam?", min_length=2, remind=REMIND, timeout=TIMEOUT)
    born = await d.date(
        "Wat is uw geboortedatum?",
        after=date(1900, 1, 1),
        before=(await d.now()).date(),
        tries=3,
        remind=REMIND,
        timeout=TIMEOUT,
    )
    complaint = await d.text("Waar hebt u last van?", remind=REMIND, timeout=TIMEOUT)
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10), tries=3, remind=REMIND, timeout=TIMEOUT)
    return Record(name, born, complaint, int(pain))


async def hand_over(d: Dialog, client: Client, nurses: Nurses, reason: str) -> None:
    """Tell the nurses, and leave the chat to them until they give it back."""
    body = f"{reason} Klaar? Typ: {BACK}{d.chat.text} {d.user_id}"
    await d.once(tell, client, nurses, body, await d.uuid())
    await d.hand_over(reason)


async def tell(client: Client, nurses: Nurses, body: str, number: UUID) -> None:
    """Send it to the nurses. With a journal, the same key is never sent twice, whenever the bot dies."""
    message = Outgoing(nurses.chat, body, key=str(number))
    await client.send_many([message], journal=nurses.journal).report()


def set_up(bot: Bot) -> None:
    """Put everything into a bot; records and nurses are provided beside."""
    bot.include(router)


def bot() -> Bot:
    """Return the bot."""
    made = Bot(store="intake.db")
    made.provide(Records(), Nurses(os.environ["NURSES_CHAT"]))
    set_up(made)
    return made
