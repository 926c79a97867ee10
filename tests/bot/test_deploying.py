"""A bot as it is deployed: its open dialogs against new code, by the command line; and a campaign by it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client
from healthmsg.bot import Answer, Bot, Dialog, Dialogs, IncomingMessage, NoAnswer, Router, command
from healthmsg.bot.dialogs.registration import RegisteredDialog, register
from healthmsg.bot.testing import BotTest, StartBot
from tests.bot.dialogs import test_changed_code as edits
from tests.cli.command_line import Done, invoke

SOURCE = Path(__file__).read_text(encoding="utf-8").splitlines()
DEPLOYED: list[RegisteredDialog[Any]] = []
"""The dialog that the bot has at its next start."""


def set_up(bot: Bot) -> None:
    """Include the dialog as it is deployed at present."""
    router = Router()
    dialog = DEPLOYED[0]
    router.dialogs.append(dialog)

    @router.message(command("begin"))
    async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start("intake", message)

    @router.message(command("terug"))
    async def take_back(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.take_back(message)

    bot.include(router)
    bot.provide(Ehr())


def bot() -> Bot:
    """Return the bot that is to be deployed, for `bot check`."""
    made = Bot(store="not-opened.db")
    set_up(made)
    return made


@pytest.fixture(autouse=True)
def _deployed() -> Iterator[None]:
    DEPLOYED[:] = [register(name="intake")(edits.original)]
    edits.DONE.clear()
    yield
    DEPLOYED.clear()


async def called(*arguments: object, **variables: str) -> Done:
    return await asyncio.to_thread(invoke, *map(str, arguments), env=variables)


async def checked(bot_test: BotTest) -> Done:
    """Have `bot check` try the store beside the bot that has it."""
    assert bot_test._life is not None
    return await called("bot", "check", bot_test._life.store, f"{__name__}:bot")


async def at_the_last_question(healthmsg_bot: StartBot) -> tuple[BotTest, Any]:
    bot_test = await healthmsg_bot(set_up, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("begin")
    for said in ("An", "8", "bellen"):
        await an.answers(said)
    assert an.sees[-1].body == "Klopt alles?"
    return bot_test, an


@pytest.mark.parametrize("code", edits.FITTING, ids=lambda code: code.__name__)
async def test_a_compatible_edit_passes_the_check_and_its_dialogs_go_on(
    healthmsg_bot: StartBot, code: Any
) -> None:
    bot_test, an = await at_the_last_question(healthmsg_bot)
    DEPLOYED[:] = [register(name="intake")(code)]

    assert await checked(bot_test) == Done(0, "1 of 1 open dialogs fit this code.\n", "")
    await bot_test.kill_and_restart()
    await an.presses("Ja")

    assert "8 bellen" in an.sees[5].body or "An bellen" in an.sees[5].body
    assert edits.DONE[:1] == ["An"]
    assert edits.DONE.count("An") == 1


@pytest.mark.parametrize(("code", "result"), edits.UNFITTING, ids=lambda one: getattr(one, "__name__", one))
async def test_an_incompatible_edit_is_found_and_its_dialog_sends_nothing_and_informs_a_person(
    healthmsg_bot: StartBot, code: Any, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    bot_test, an = await at_the_last_question(healthmsg_bot)
    seen = len(an.sees)
    DEPLOYED[:] = [register(name="intake")(code)]

    done = await checked(bot_test)
    assert (done.code, done.out.splitlines()[-1]) == (1, "0 of 1 open dialogs fit this code.")
    assert not any(said in done.out for said in ("An", "bellen", "14:30"))
    await bot_test.kill_and_restart()
    await an.presses("Ja")

    assert edits.DONE == ["An"]
    if result == "held":
        assert len(an.sees) == seen
        assert "is held" in caplog.text
        assert len(await bot_test.bot.parked()) == 1
    else:
        assert [one.body for one in an.sees[seen:]] == ["Hoe?"]


class Ehr:
    """What a bot provides."""


async def with_parts_of_the_bot(d: Dialog, ehr: Ehr, client: Client, bot: Bot) -> None:
    user = await d.once(client.users.get, d.user_id)
    assert isinstance(ehr, Ehr)
    assert isinstance(bot, Bot)
    await d.confirm(f"{user.first_name}, komt u?")


@pytest.mark.parametrize("has_environment", [True, False])
async def test_a_dialog_that_works_with_the_client_and_the_bot_passes_the_check(
    healthmsg_bot: StartBot, monkeypatch: pytest.MonkeyPatch, has_environment: bool
) -> None:
    for name in ("HEALTHMSG_TOKEN", "HEALTHMSG_API_URL", "HEALTHMSG_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    if has_environment:
        monkeypatch.setenv("HEALTHMSG_ENVIRONMENT", "alterdesk")
    DEPLOYED[:] = [register(name="intake")(with_parts_of_the_bot)]
    bot_test = await healthmsg_bot(set_up)
    an = bot_test.patient("An")
    await an.says("begin")
    assert an.sees[-1].body == "An, komt u?"

    assert await checked(bot_test) == Done(0, "1 of 1 open dialogs fit this code.\n", "")


# --- what a dialog may not do


async def sleeping(d: Dialog) -> None:
    await d.text("Hoe lang?")
    await asyncio.sleep(1)  # the line that is named
    await d.say("Nooit.")


async def gathering(d: Dialog) -> None:
    await asyncio.gather(d.text("A?"), d.text("B?"))  # the line that is named


@pytest.mark.parametrize("code", [sleeping, gathering], ids=lambda code: code.__name__)
async def test_a_foreign_await_is_refused_with_file_and_line(
    healthmsg_bot: StartBot, code: Any, caplog: pytest.LogCaptureFixture
) -> None:
    DEPLOYED[:] = [register(name="intake")(code)]
    bot_test = await healthmsg_bot(set_up, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("begin")
    await an.says("An")
    await bot_test.advance(minutes=5)

    first = code.__code__.co_firstlineno
    line = next(n for n, text in enumerate(SOURCE[first:], first + 1) if "the line that is named" in text)
    assert f"{__file__}:{line}" in caplog.text
    assert "ForeignAwaitError" in caplog.text
    assert "Nooit." not in [seen.body for seen in an.sees]


# --- a campaign by the command line


async def test_what_the_command_line_asked_is_answered_to_the_bot_days_later_with_its_key(
    healthmsg_bot: StartBot, tmp_path: Path
) -> None:
    answers: list[tuple[str | None, tuple[str, ...], str]] = []
    router, journal = Router(), tmp_path / "visits.db"

    @router.answered("visit")
    async def visit(answer: Answer[str]) -> None:
        answers.append((answer.key, answer.event.options, answer.user_id))
        await answer.reply("Genoteerd.")

    bot_test = await healthmsg_bot(
        router, lambda bot: bot.campaign("visit", journal=journal), allow_parked=True
    )
    people = [bot_test.patient(name, aux_id=f"p-{name}") for name in ("An", "Bo")]
    rows = tmp_path / "tomorrow.csv"
    rows.write_text("aux_id,key,name\np-An,visit/1,An\np-Bo,visit/2,Bo\n", encoding="utf-8")
    done = await called(
        *("send-many", rows, "--journal", journal, "--label", "visit", "--template", "Komt u, {name}?"),
        *("--option", "Ja", "--option", "Nee", "--yes"),
        HEALTHMSG_API_URL=bot_test.sandbox.environment.api_url,
        HEALTHMSG_TOKEN=bot_test.sandbox.issue_token(),
    )
    assert done.code == 0, done.err + done.out
    await bot_test.advance(days=3)
    await bot_test.kill_and_restart()

    away = journal.rename(tmp_path / "away.db")
    await people[1].presses("Nee")
    await bot_test.advance(minutes=1)
    (parked,) = await bot_test.bot.parked()
    assert "the journal of the campaign 'visit' is not there" in parked.reason
    away.rename(journal)
    await bot_test.bot.retry(None)
    await people[0].presses("Ja")

    assert answers == [("visit/2", ("nee",), people[1].id), ("visit/1", ("ja",), people[0].id)]
    assert [one.sees[-1].body for one in people] == ["Genoteerd."] * 2


# --- timers and code that does not fit


async def waiting(d: Dialog) -> None:
    await d.say("Hallo.")
    try:
        await d.confirm("Komt u?", remind=timedelta(hours=4), timeout=timedelta(hours=20))
    except NoAnswer:
        await d.say("Te laat.")


async def other_waiting(d: Dialog) -> None:
    await d.text("Hoe laat?")


async def failing_at_the_end(d: Dialog) -> None:
    await d.say("Hallo.")
    try:
        await d.confirm("Komt u?", remind=timedelta(hours=4), timeout=timedelta(hours=20))
    except NoAnswer:
        raise KeyError from None


@pytest.mark.parametrize(
    ("code", "hours"), [(other_waiting, 5), (other_waiting, 24), (failing_at_the_end, 21)]
)
async def test_a_timer_that_finds_out_that_the_code_does_not_fit_is_not_lost(
    healthmsg_bot: StartBot, code: Any, hours: int
) -> None:
    DEPLOYED[:] = [register(name="intake")(waiting)]
    bot_test = await healthmsg_bot(set_up)
    an = bot_test.patient("An")
    await an.says("begin")
    DEPLOYED[:] = [register(name="intake")(code)]
    await bot_test.kill_and_restart()
    await bot_test.advance(hours=hours)
    (dialog,) = await bot_test.bot.open_dialogs()
    assert dialog.state == "held"

    DEPLOYED[:] = [register(name="intake")(waiting)]
    await bot_test.kill_and_restart()
    await bot_test.advance(hours=1)
    await an.says("/terug")
    await bot_test.advance(hours=24)

    assert an.sees[-1].body == "Te laat."
    assert await bot_test.bot.open_dialogs() == []
