"""What the vendor's bot does only when its control surface is asked: `introduce` and `ask_has_time`."""

from datetime import timedelta
from typing import Final

from examples.vendor_bot.words import STOP, TOO_LATE, WAIT, last_name
from healthmsg import Option
from healthmsg.bot import Dialog, NoAnswer, Router, Stopped

router = Router("errands")

ASK_AGAIN_AFTER: Final = timedelta(seconds=30)


@router.dialog(stop=STOP)
async def introduce(d: Dialog) -> None:
    """Say who this is, with a button that is the command `form`."""
    await d.say(
        "Hi! I am the Example Alterdesk bot, press start to begin!",
        options=[Option("Start filling in form", name="form", style="red")],
    )


@router.dialog(name="askHasTime", stop=STOP)
async def ask_has_time(d: Dialog) -> None:
    """Ask for an address; who has no time is asked again later."""
    try:
        await ask_for_address(d)
    except Stopped:
        await d.say("Stopped asking")
    except NoAnswer:
        await d.say(TOO_LATE)


async def ask_for_address(d: Dialog) -> None:
    """Ask whether this is a good moment, and for the address."""
    if not await d.confirm(
        "Do you have time to fill in a form?", yes="Yes", no="No", invalid="Invalid answer.", timeout=WAIT
    ):
        await d.say("That's too bad, I will ask you again tomorrow")
        await d.sleep(ASK_AGAIN_AFTER)
        await d.restart()
    await d.say("OK great, let's get started!")
    code = await d.text("What is your postal code?", invalid="Invalid postal code.", timeout=WAIT)
    street = await d.text("What is the name of your street?", invalid="Invalid street.", timeout=WAIT)
    number = await d.number("And what is your house number?", invalid="Invalid number.", timeout=WAIT)
    await d.say(
        f"Thank you, your package will be sent to:\n\nPostal code:\n    {code}"
        f"\n\nStreet name:\n    {last_name(street)}\n\nHouse number:\n    {number}"
    )
