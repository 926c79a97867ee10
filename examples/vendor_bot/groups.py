"""`group` and `invite`: a new group chat, for coworkers only."""

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from examples.vendor_bot.words import STOP, TOO_LATE, WAIT, capitalized, last_name, offer_again
from healthmsg import CallError, Client, GroupInvite, GroupSettings
from healthmsg.bot import Choice, Dialog, NoAnswer, Router, Stopped
from healthmsg.models.invitations import InviteType

router = Router("groups")

CLOSE_AFTER: Final = GroupSettings(auto_close_after=7)
KINDS: Final[Mapping[str, InviteType]] = {
    "Coworker": "coworker",
    "Contact": "contact",
    "Private": "private_user",
}


@router.dialog(stop=STOP)
async def group(d: Dialog, client: Client) -> None:
    """Ask for a subject, and make the group chat."""
    try:
        if not await d.once(client.users.is_coworker, d.user_id):
            await d.say("Sorry you have no access to the group command.")
            return
        await make_group(d, client)
    except Stopped:
        await offer_again(d, "Stopped creating group", "group", "Restart creating group")
    except NoAnswer:
        await offer_again(d, TOO_LATE, "group", "Restart creating group")


async def make_group(d: Dialog, client: Client) -> None:
    """Ask, say it back, and make it if that is right."""
    subject = await d.text(
        "What should the subject for the group be? (Accepted length 8-200)",
        min_length=8,
        max_length=200,
        invalid="Invalid group chat subject.",
        timeout=WAIT,
    )
    auto_close = await d.confirm(
        "Should the chat close automatically after a week of inactivity? (Yes or no)",
        yes="Yes",
        no="No",
        invalid="Invalid answer",
        timeout=WAIT,
    )
    closing = "Yes" if auto_close else "No"
    await d.say(f"Group chat to create:\n\nSubject:\n    {subject}\n\nAuto close:\n    {closing}")
    if not await sure(d, "Are you sure you want to create the group? (Yes or no)"):
        await d.say("Not creating group")
        return
    await d.say("Creating group chat, one moment please")
    try:
        await d.once(create, client, subject, d.user_id, auto_close)
    except CallError:
        await d.say("Unable to create group chat")
    else:
        await d.say("Group chat created")


@frozen
class Invitation:
    """The person to invite."""

    first_name: str
    last_name: str
    kind: InviteType
    email: str

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"


@router.dialog(stop=STOP)
async def invite(d: Dialog, client: Client) -> None:
    """Ask for a person, and invite them into a group chat of their own."""
    try:
        if not await d.once(client.users.is_coworker, d.user_id):
            await d.say("Sorry you have no access to the invite command.")
            return
        await invite_person(d, client)
    except Stopped:
        await offer_again(d, "Stopped inviting a user", "invite", "Restart inviting a user")
    except NoAnswer:
        await offer_again(d, TOO_LATE, "invite", "Restart inviting a user")


async def invite_person(d: Dialog, client: Client) -> None:
    """Ask, say it back, and send the invitation if that is right."""
    person = await ask_for_person(d)
    await d.say(
        f"User to invite:\n\nName:\n    {person.name}\n\nInvite as:\n    {person.kind}"
        f"\n\nSend invite to:\n    {person.email}"
    )
    if not await sure(d, "Are you sure you want to send the invite? (Yes or no)"):
        await d.say("Not inviting user ")
        return
    await d.say("Your invite is being sent and corresponding group chat is created, one moment please")
    try:
        await d.once(create_with, client, person, d.user_id)
    except CallError:
        await d.say("Unable to invite user and/or create group chat")
    else:
        await d.say("Group chat created and user is invited")


async def ask_for_person(d: Dialog) -> Invitation:
    """Ask who is to be invited."""
    first = await d.text(
        "What is the first name of the user you want to invite?", invalid="Invalid name.", timeout=WAIT
    )
    last = await d.text("What is the last name?", invalid="Invalid name.", timeout=WAIT)
    kind = await d.choice(
        "Do you want to invite the user as a coworker, contact or private user?",
        [Choice(label, kind, name=label.lower(), style="black") for label, kind in KINDS.items()],
        invalid="Invalid choice.",
        timeout=WAIT,
    )
    email = await d.email(
        "To which email address should the invite be sent?", invalid="Invalid email address.", timeout=WAIT
    )
    return Invitation(capitalized(first), last_name(last), kind, email)


async def sure(d: Dialog, question: str) -> bool:
    """Ask whether to go on."""
    return await d.confirm(question, yes="Yes", no="No", invalid="Invalid confirmation.", timeout=WAIT)


async def create(client: Client, subject: str, user_id: str, auto_close: bool) -> str:  # noqa: FBT001 - by once
    """Make a group chat with this user in it, and return its id."""
    settings = CLOSE_AFTER if auto_close else None
    return (await client.groupchats.create(subject=subject, members=[user_id], settings=settings)).id


async def create_with(client: Client, person: Invitation, user_id: str) -> str:
    """Make a group chat with this user and a new one in it, and return its id."""
    chat = await client.groupchats.create(
        subject=f"Group chat with {person.name}",
        members=[user_id],
        invite_users=[
            GroupInvite(
                email=person.email,
                first_name=person.first_name,
                last_name=person.last_name,
                invite_type=person.kind,
            )
        ],
        settings=CLOSE_AFTER,
    )
    return chat.id
