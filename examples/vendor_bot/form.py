"""`form`: a questionnaire with every type of question."""

from datetime import timedelta
from typing import Final

from attrs import frozen

from examples.vendor_bot.words import (
    STOP,
    TOO_LATE,
    WAIT,
    capitalized,
    completed,
    last_name,
    listed,
    offer_again,
)
from healthmsg import Attachment, Client, User
from healthmsg.bot import Choice, Dialog, NoAnswer, Router, Stopped

router = Router("form")

COLOURS: Final[tuple[str, ...]] = ("Red", "Green", "Orange", "Yellow", "Purple", "Blue", "Black", "Theme")
STARS: Final[tuple[str, ...]] = ("★★★★★", "★★★★☆", "★★★☆☆", "★★☆☆☆", "★☆☆☆☆")
MOODS: Final = (
    Choice("A) Great", 30, name="a", style="green"),
    Choice("B) Fine", 20, name="b", style="green"),
    Choice("C) Not so great", 10, name="c", style="orange"),
    Choice("D) Bad", 0, name="d", style="red"),
)
PAUSE: Final = timedelta(seconds=3)


@frozen
class Form:
    """What was filled in."""

    colours: list[str]
    stars: int
    mood: int
    why: str | None
    first_name: str
    last_name: str
    age: int
    email: str | None
    reason: str | None
    phone: str
    pictures: list[Attachment]
    people: list[User]


@router.dialog(stop=STOP)
async def form(d: Dialog, client: Client) -> None:
    """Ask everything, and say it back."""
    try:
        answers = await fill_in(d, client)
    except Stopped:
        await offer_again(d, "Stopped filling in form", "form", "Restart filling in form")
    except NoAnswer:
        await offer_again(d, TOO_LATE, "form", "Restart filling in form")
    else:
        await d.say(summary(answers))


async def fill_in(d: Dialog, client: Client) -> Form:
    """Ask everything."""
    await d.say(
        'This is a demo form, it is quite long and you can stop it anytime by sending "stop", here we go!'
    )
    await d.sleep(PAUSE)
    colours = await d.choices(
        "Select one or more colors that you like, and press send.",
        [Choice(colour, colour.lower(), style=colour.lower()) for colour in COLOURS],
        invalid="Invalid choice.",
        timeout=WAIT,
    )
    stars = await d.choice(
        "How many stars would you rate our service? (from 1 to 5)",
        [Choice(label, 5 - n, name=str(5 - n)) for n, label in enumerate(STARS)],
        invalid="Invalid rating.",
        timeout=WAIT,
    )
    mood = await d.choice(
        "How are you doing today?", MOODS, layout="vertical", invalid="Invalid choice.", timeout=WAIT
    )
    why = None
    if mood == 0:
        why = await d.text("Care to share why?", invalid="Invalid", timeout=WAIT)
    first = await d.text(
        "Can you send me your first name?",
        min_length=2,
        max_length=100,
        invalid="Invalid name.",
        timeout=WAIT,
    )
    last = await d.text(
        "Can you send me your last name?", min_length=2, max_length=100, invalid="Invalid name.", timeout=WAIT
    )
    age = await d.number(
        "How old are you? (Allowed range 12-90)",
        between=(12, 90),
        invalid="Invalid number or out of range.",
        timeout=WAIT,
    )
    email = reason = None
    if await d.confirm(
        "Do you want to subscribe to our newsletter? (Yes or no)",
        yes="Yes",
        no="No",
        invalid="Invalid answer.",
        timeout=WAIT,
    ):
        email = await d.email(
            "What is your email address? (Allowed domains: .com and .nl)",
            domains=(".com", ".nl"),
            invalid="Invalid email address.",
            timeout=WAIT,
        )
    else:
        reason = await d.text(
            "Can you tell us why you don't want to subscribe?",
            min_length=2,
            invalid="Invalid answer.",
            timeout=WAIT,
        )
    await d.say("Just a few more questions that require specific input.")
    await d.sleep(PAUSE)
    phone = await d.phone(
        "What is your phone number? (Allowed country code +31)",
        countries=("+31",),
        invalid="Invalid phone number.",
        timeout=WAIT,
    )
    pictures = await d.files(
        "Can you send me one to three images? (JPG/PNG, 1KB-1MB)",
        count=(1, 3),
        size=(1024, 1024 * 1024),
        extensions=(".jpg", ".jpeg", ".png"),
        invalid="Invalid attachment or out of range.",
        timeout=WAIT,
    )
    mentioned = await d.mention(
        "Which users do you want to include? (Use '@' to sum up users)",
        robots=not d.chat.kind.is_group,
        everybody=d.chat.kind.is_group,
        invalid="Invalid mention.",
        timeout=WAIT,
    )
    people = await d.once(completed, client, d.chat.text, mentioned)
    return Form(
        colours, stars, mood, why, capitalized(first), last_name(last), int(age), email, reason, phone,
        pictures, people,
    )  # fmt: skip


def summary(answers: Form) -> str:
    """Return what was filled in, to be read."""
    letter = next(mood.name for mood in MOODS if mood.value == answers.mood)
    subscribed = (
        f"Reason not to subscribe:\n    {answers.reason}"
        if answers.email is None
        else f"Email address to subscribe:\n    {answers.email}"
    )
    parts = [
        "Thank you, your answers were:",
        f"Colors you like:\n    {','.join(answers.colours)}",
        f"Mood score:\n    {letter}",
        f"First name:\n    {answers.first_name}",
        f"Last name:\n    {answers.last_name}",
        f"Age:\n    {answers.age}",
        subscribed,
        f"Phone:\n    {answers.phone}",
        "Attachments:" + "".join(f"\n    {picture.name}" for picture in answers.pictures),
        "Mentioned users:" + listed(answers.people),
    ]
    return "\n\n".join(parts)
