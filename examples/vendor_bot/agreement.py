"""`agreement`: everybody who is mentioned accepts, or one rejects it for all."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from examples.vendor_bot.chat_pdf import download, remove
from examples.vendor_bot.words import STOP, TOO_LATE, WAIT, completed, listed, offer_again, shown
from healthmsg import Client, UploadFile, User
from healthmsg.bot import ConfirmQuestion, Dialog, NoAnswer, Router, Stopped

router = Router("agreement")

WAIT_FOR_ALL: Final = timedelta(minutes=10)


@router.dialog(stop=STOP)
async def agreement(d: Dialog, client: Client) -> None:
    """Ask what is agreed and with whose consent, and write the PDF of it."""
    try:
        await agree(d, client)
    except Stopped:
        await offer_again(d, "Stopped making an agreement", "agreement", "Restart making an agreement")
    except NoAnswer:
        await offer_again(d, TOO_LATE, "agreement", "Restart making an agreement")


async def agree(d: Dialog, client: Client) -> None:
    """Ask, say it back, and ask all for their consent."""
    begun = await d.now()
    me = await d.once(client.users.get, d.user_id)
    greeting = f"Hello {me.first_name}, with who" if me.first_name else "With who"
    mentioned = await d.mention(
        f"{greeting} do you want to make the agreement with? (Use '@' to sum up users)",
        everybody=True,
        robots=False,
        key="mentions",
        invalid="Invalid mention.",
        timeout=WAIT,
    )
    people = await d.once(completed, client, d.chat.text, [me, *mentioned])
    text = await d.text("What is the agreement?", invalid="Invalid answer.", timeout=WAIT)
    await d.say(f"Agreement details:\n\nAgreement:\n    {text}\n\nMentioned users:{listed(people)}")
    answers = await d.ask_all(
        people,
        ConfirmQuestion("Do you agree with the agreement? (Accept or Reject)", yes="Accept", no="Reject"),
        stop_on=False,
        summary=lambda answers, missing: said_so_far(people, answers, missing),
        timeout=WAIT_FOR_ALL,
    )
    await d.say(said_so_far(people, answers, ()))
    if not all(answers.values()):
        await d.say("Unable to reach an agreement")
        return
    await d.say("Agreement was reached, generating pdf")
    path = await d.once(download, client, d.chat.text, f"{d.id}.pdf", begun)
    await d.say("", files=[UploadFile(path, name="Chat.pdf")])
    await d.once(remove, path)


def said_so_far(people: Sequence[User], answers: Mapping[str, bool], missing: Sequence[str]) -> str:
    """Return who has answered just now, and who has not yet."""
    by_id = {user.id: user for user in people}
    last = [*answers][-1]
    said = "has accepted" if answers[last] else "has rejected"
    others = f"\n\nWaiting for:{listed([by_id[user] for user in missing])}" if missing else ""
    return f"{shown(by_id[last])} {said}{others}"
