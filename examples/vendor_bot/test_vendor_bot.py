"""The vendor's example bot: the same questions, buttons and results, also with a restart after each step."""

import pytest

from examples.vendor_bot.bot import COMMANDS, HELP, PHOTO, set_up
from examples.vendor_bot.form import COLOURS, STARS
from healthmsg.bot import Texts
from healthmsg.bot.surface import DialogRequest
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.ids import ChatAddress

PICTURE = ("knee.jpg", b"\xff\xd8" + bytes(2048))


RESTARTED = pytest.param(
    True, id="restarted after every step", marks=[pytest.mark.slow, pytest.mark.thorough]
)


@pytest.fixture(params=[pytest.param(False, id="plainly"), RESTARTED])
async def bot_test(request: pytest.FixtureRequest, healthmsg_bot: StartBot) -> BotTest:
    """Run the bot; the second time, it is killed and started again after each step."""
    return await healthmsg_bot(set_up, texts=Texts.english(), restart_after_every_step=request.param)


def said(patient: Patient) -> list[str]:
    """Return what the bot has said in the conversation after its welcome."""
    welcome, *others = patient.sees
    assert (welcome.body, welcome.options) == ("Welcome to the messenger!", ("Help",))
    return [seen.body for seen in others]


async def test_help_lists_eight_commands_with_buttons(bot_test: BotTest) -> None:
    an = bot_test.patient("An")

    await an.says("Support")

    _, seen = an.sees
    assert seen.body.startswith(HELP + "\n • 'form' - Fill in a form")
    assert [button.name for button in seen.buttons] == [name for name, *_ in COMMANDS]
    await an.presses("Ping")
    assert said(an)[-1] == "PONG!"


async def test_what_is_not_understood_offers_help(bot_test: BotTest) -> None:
    an = bot_test.patient("An")

    await an.says("Hi bot")
    await an.presses("Help")

    assert said(an)[0].startswith("I did not understand what you said")
    assert said(an)[1].startswith(HELP)


async def test_photo_and_pdf_are_files(bot_test: BotTest) -> None:
    an = bot_test.patient("An")

    await an.says("photo")
    await an.says("pdf")

    _, photo, wait, pdf = an.sees
    assert (photo.body, photo.files[0].content) == ("Here is the photo you requested", PHOTO.read_bytes())
    assert wait.body == "Generating pdf, one moment please"
    assert pdf.files[0].name == "Chat.pdf"
    assert pdf.files[0].content.startswith(b"%PDF")


async def until_names(an: Patient, bot_test: BotTest) -> None:
    """Fill in the first half of the form."""
    await an.says("form")
    await bot_test.advance(seconds=3)
    assert an.sees[-1].options == COLOURS
    await an.presses("Red", "Blue")
    assert an.sees[-1].options == STARS
    await an.presses("★★★★☆")
    assert an.sees[-1].options == ("A) Great", "B) Fine", "C) Not so great", "D) Bad")
    await an.presses("D) Bad")
    await an.answers("my knee")
    await an.answers("an")
    await an.answers("de boer")


async def test_form_asks_all_and_says_it_back(bot_test: BotTest) -> None:
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    await until_names(an, bot_test)
    await an.answers("11")
    assert "Invalid number or out of range." in said(an)[-1]
    await an.answers("42")
    assert an.sees[-1].options == ("Yes", "No")
    await an.presses("Yes")
    await an.answers("an@example.org")
    assert "Invalid email address." in said(an)[-1]
    await an.answers("an@example.nl")
    await bot_test.advance(seconds=3)
    await an.answers("06 12345678")
    await an.sends(PICTURE)
    await an.answers(f"[mention={bo.id}]")

    assert said(an)[-1] == (
        "Thank you, your answers were:\n\nColors you like:\n    red,blue\n\nMood score:\n    d"
        "\n\nFirst name:\n    An\n\nLast name:\n    de Boer\n\nAge:\n    42"
        "\n\nEmail address to subscribe:\n    an@example.nl\n\nPhone:\n    +31612345678"
        "\n\nAttachments:\n    knee.jpg\n\nMentioned users:\n    Bo Visser"
    )


async def test_form_takes_no_for_an_answer_and_asks_for_the_reason(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await until_names(an, bot_test)
    await an.answers("42")

    await an.answers("no")

    assert said(an)[-1] == "Can you tell us why you don't want to subscribe?"


async def test_form_can_be_stopped_and_begun_again_by_a_button(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await until_names(an, bot_test)

    await an.says("Abort")
    assert said(an)[-1] == "Stopped filling in form"
    await an.presses("Restart filling in form")

    assert said(an)[-1].startswith("This is a demo form")


async def test_form_waits_for_two_minutes(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await until_names(an, bot_test)

    await bot_test.advance(seconds=119)
    assert said(an)[-1].startswith("How old are you?")
    await bot_test.advance(seconds=2)

    assert said(an)[-1] == "You waited too long to answer, stopped listening."
    assert an.sees[-1].options == ("Restart filling in form",)


async def test_group_is_for_coworkers_only(bot_test: BotTest) -> None:
    an = bot_test.patient("An")

    await an.says("group")

    assert said(an) == ["Sorry you have no access to the group command."]


async def test_group_is_made_once_it_is_confirmed(bot_test: BotTest) -> None:
    bo = bot_test.colleague("Bo")
    await bo.says("group")
    await bo.answers("Knees")
    assert "Invalid group chat subject." in said(bo)[-1]
    await bo.answers("Knees and hips")
    await bo.presses("Yes")
    assert "Group chat to create:\n\nSubject:\n    Knees and hips\n\nAuto close:\n    Yes" in said(bo)
    await bo.presses("Yes")

    assert said(bo)[-2:] == ["Creating group chat, one moment please", "Group chat created"]
    groups = [chat async for chat in bot_test.client.groupchats.list()]
    assert [chat.subject for chat in groups] == ["Knees and hips"]


async def test_invite_makes_a_group_with_the_person(bot_test: BotTest) -> None:
    bo = bot_test.colleague("Bo")
    await bo.says("invite")
    await bo.answers("cees")
    await bo.answers("van dam")
    assert bo.sees[-1].options == ("Coworker", "Contact", "Private")
    await bo.presses("Private")
    await bo.answers("cees@example.org")
    assert "User to invite:\n\nName:\n    Cees van Dam\n\nInvite as:\n    private_user" in said(bo)[-2]
    await bo.presses("Yes")

    assert said(bo)[-1] == "Group chat created and user is invited"
    groups = [chat async for chat in bot_test.client.groupchats.list()]
    assert [chat.subject for chat in groups] == ["Group chat with Cees van Dam"]


async def test_agreement_needs_a_group(bot_test: BotTest) -> None:
    an = bot_test.patient("An")

    await an.says("agreement")

    assert said(an) == ["Making an agreement is only available in group chats"]


async def test_agreement_is_reached_when_all_accept(bot_test: BotTest) -> None:
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    team = bot_test.group("Team", an, bo)
    await an.says("agreement", group=team)
    assert team.sees[-1].body.startswith("Hello An, with who")
    await an.answers(f"[mention={bo.id}]", group=team)
    await an.answers("No running", group=team)
    assert team.sees[-1].options == ("Accept", "Reject")
    await an.presses("Accept", group=team)
    assert team.sees[-1].body == "An Visser has accepted\n\nWaiting for:\n    Bo Visser"
    await bo.presses("Accept", group=team)

    *_, last, reached, pdf = team.sees
    assert (last.body, reached.body) == ("Bo Visser has accepted", "Agreement was reached, generating pdf")
    assert pdf.files[0].name == "Chat.pdf"


async def test_agreement_ends_with_the_first_who_rejects(bot_test: BotTest) -> None:
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    team = bot_test.group("Team", an, bo)
    await an.says("agreement", group=team)
    await an.answers(f"[mention={bo.id}]", group=team)
    await an.answers("No running", group=team)
    await bo.presses("Reject", group=team)

    assert [seen.body for seen in team.sees[-2:]] == [
        "Bo Visser has rejected",
        "Unable to reach an agreement",
    ]


@pytest.mark.parametrize("accepted", [True, False])
async def test_verify_explains_asks_and_says_how_it_ended(bot_test: BotTest, accepted: bool) -> None:  # noqa: FBT001 - of pytest
    an = bot_test.patient("An")
    await an.says("verify")
    await an.presses("Yes")
    await bot_test.advance(seconds=20)
    assert "I am going to send you the verification request now." in said(an)
    assert an.sees[-1].asks_for_verification
    await an.verifies(accepted=accepted)

    ending = (
        "Great! Your account is now verified!" if accepted else "It seems you rejected the request, too bad"
    )
    assert said(an)[-1] == ending


async def test_a_new_group_is_welcomed(bot_test: BotTest) -> None:
    team = bot_test.group("Team", bot_test.patient("An"))
    await bot_test.idle()

    assert [seen.body for seen in team.sees] == ["Thank you for adding me to the group!"]
    assert team.sees[0].options == ("Help",)


async def started(bot_test: BotTest, dialog: str, patient: Patient) -> None:
    """Start a dialog as the control surface does."""
    await bot_test.idle()
    chat = ChatAddress.parse(patient.address)
    await bot_test.bot.start_dialog(DialogRequest(dialog=dialog, user=patient.id, chat=chat))
    await bot_test.idle()


async def test_introduce_has_a_button_that_starts_the_form(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await started(bot_test, "introduce", an)
    assert said(an) == ["Hi! I am the Example Alterdesk bot, press start to begin!"]

    await an.presses("Start filling in form")

    assert said(an)[-1].startswith("This is a demo form")


async def test_who_has_no_time_is_asked_again_after_thirty_seconds(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await started(bot_test, "askHasTime", an)
    await an.presses("No")
    assert said(an)[-1] == "That's too bad, I will ask you again tomorrow"

    await bot_test.advance(seconds=30)
    assert said(an)[-1] == "Do you have time to fill in a form?"
    await an.presses("Yes")
    await an.answers("1234 AB")
    await an.answers("van de weg")
    await an.answers("12")

    assert said(an)[-1] == (
        "Thank you, your package will be sent to:\n\nPostal code:\n    1234 AB"
        "\n\nStreet name:\n    van de Weg\n\nHouse number:\n    12"
    )
