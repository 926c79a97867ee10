"""`verify`: a user proves who they are, with iDIN."""

from datetime import timedelta
from typing import Final

from examples.vendor_bot.words import STOP, TOO_LATE, WAIT, offer_again
from healthmsg.bot import Dialog, NoAnswer, Router, Stopped

router = Router("verify")

EXPLANATION: Final = (
    ("I will send you a verification request.", 3),
    ("If you accept the request, you will be guided to the website of the identity provider.", 5),
    ("When you are authenticated by the identity provider, your messenger account will be verified.", 5),
    ("You can also choose to reject the request, but then your account will not get verified.", 5),
    ("I am going to send you the verification request now.", 2),
)


@router.dialog(stop=STOP)
async def verify(d: Dialog) -> None:
    """Explain if that is wanted, ask, and say how it ended."""
    try:
        await ask_for_proof(d)
    except Stopped:
        await offer_again(d, "Stopped verifying", "verify", "Restart verifying your account")
    except NoAnswer:
        await offer_again(d, TOO_LATE, "verify", "Restart verifying your account")


async def ask_for_proof(d: Dialog) -> None:
    """Explain if that is wanted, and ask."""
    if await d.confirm(
        "Seems like you want to verify your account, do you want some information before we start?",
        yes="Yes",
        no="No",
        invalid="Invalid answer",
        timeout=WAIT,
    ):
        for text, seconds in EXPLANATION:
            await d.say(text)
            await d.sleep(timedelta(seconds=seconds))
    verified = await d.verification("idin", timeout=WAIT)
    if verified:
        await d.say("Great! Your account is now verified!")
    else:
        await d.say("It seems you rejected the request, too bad")
