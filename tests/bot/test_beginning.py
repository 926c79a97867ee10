"""What a bot refuses before it begins, and how a dialog that is started from outside begins."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from attrs import frozen

from healthmsg.bot import Bot, Dialog, Dialogs, IncomingMessage, Retry, Router, text
from healthmsg.bot.dialogs.values import can_be_kept
from healthmsg.bot.signals import RetryLater
from healthmsg.bot.surface import DialogRequest
from healthmsg.bot.testing import StartBot
from healthmsg.client import Client
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError, DialogOpenError
from healthmsg.ids import ChatAddress

HERE = __file__
LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


class Ehr:
    """What no dialog can be handed."""


class Base:
    """Of which one kind can be kept."""


@frozen
class Patient(Base):
    name: str


class Named(Protocol):
    name: str


def bot_with(router: Router, path: Path) -> Bot:
    client = Client(
        "unused",
        environment=Environment("unused", "https://unused.invalid/v1", gateway_url="wss://unused.invalid"),
    )
    bot = Bot(client, store=path / "bot.db")
    bot.include(router)
    return bot


async def refusal(bot: Bot) -> str:
    with pytest.raises(ConfigurationError) as error:
        async with bot:
            pass
    return str(error.value)


# --- what dialogs ask for


async def test_a_dialog_that_could_never_begin_is_refused_with_file_and_line(tmp_path: Path) -> None:
    router = Router()

    @router.dialog
    async def intake(d: Dialog, name: str, ehr: Ehr) -> None: ...  # this one

    said = await refusal(bot_with(router, tmp_path))
    line = next(n for n, text in enumerate(LINES, start=1) if "# this one" in text)
    assert f"intake ({HERE}:{line - 1})" in said or f"intake ({HERE}:{line})" in said
    assert "argument ehr" in said
    assert "argument name" not in said


@pytest.mark.parametrize("is_old", [False, True])
async def test_what_is_provided_or_may_be_handed_over_is_no_reason(tmp_path: Path, is_old: bool) -> None:
    router = Router()

    @router.dialog(version=2)
    async def intake(d: Dialog, ehr: Ehr, who: Patient | None, base: Base, any_: Named) -> None: ...

    if is_old:

        @intake.version(1)
        async def intake_1(
            d: Dialog, ehr: Ehr, other: Bot, born: datetime, ehr_2: Ehr | None = None
        ) -> None: ...

    bot = bot_with(router, tmp_path)
    bot.provide(Ehr())
    async with bot:
        pass


async def test_a_scheduled_dialog_is_handed_nothing_over(tmp_path: Path) -> None:
    router = Router()

    @router.dialog
    async def intake(d: Dialog, name: str) -> None: ...

    bot = bot_with(router, tmp_path)
    bot.at(datetime(2100, 1, 1, tzinfo=UTC), intake, user="u1")
    assert "argument name" in await refusal(bot)


@pytest.mark.parametrize("kind", [str, datetime, list, list[str], Patient, Base, Named, str | None, "Ehr"])
def test_what_may_be_kept_is_not_refused(kind: object) -> None:
    assert can_be_kept(kind)


def test_what_cannot_be_kept_is_certain() -> None:
    assert not can_be_kept(Ehr)
    assert not can_be_kept(Client)


# --- waits


def test_a_wait_that_is_longer_than_the_calendar_is_refused_or_shortened() -> None:
    for wrong in ({"longest": timedelta.max}, {"first": timedelta(days=400)}):
        with pytest.raises(ConfigurationError, match="366 days at most"):
            Retry(3, **wrong)
    most = timedelta(days=366)
    assert Retry(40, first=most, longest=most).wait(40, lambda: 1.0) == most
    assert RetryLater(timedelta.max).after == most
    assert RetryLater(timedelta(seconds=-5)).after == timedelta()


# --- from outside

router = Router()


@router.dialog
async def intake(d: Dialog) -> None:
    await d.say(await d.text("Naam?"))


@router.dialog
async def other(d: Dialog) -> None:
    await d.text("Iets anders?")


async def test_a_dialog_that_was_started_has_begun_when_that_is_said(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    chat = ChatAddress.parse(an.address)
    started = await bot_test.bot.start_dialog(DialogRequest(dialog="intake", user=an.id, chat=chat))
    assert started.has_begun
    found = await bot_test.bot.dialog(started.id)
    assert found is not None
    assert (found.name, found.state) == ("intake", "open")
    with pytest.raises(DialogOpenError):
        await bot_test.bot.start_dialog(DialogRequest(dialog="other", user=an.id, chat=chat))
    await an.answers("An")
    assert await bot_test.bot.dialog(started.id) is None
    assert bot_test.bot._running.engine._beginnings._awaited == {}  # type: ignore[attr-defined]


async def test_one_that_cannot_begin_since_another_one_has_is_refused(
    healthmsg_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    chat = ChatAddress.parse(an.address)
    engine = bot_test.bot._running.engine  # type: ignore[attr-defined]
    await bot_test.bot.start_dialog(DialogRequest(dialog="intake", user=an.id, chat=chat))
    found = engine._tools.store.dialog

    async def not_there_yet(*place: str) -> object:
        monkeypatch.setattr(engine._tools.store, "dialog", found)
        return None

    monkeypatch.setattr(engine._tools.store, "dialog", not_there_yet)
    with pytest.raises(DialogOpenError, match="intake"):
        await bot_test.bot.start_dialog(DialogRequest(dialog="other", user=an.id, chat=chat))


@router.message(text("allebei"))
async def both(message: IncomingMessage, dialogs: Dialogs) -> None:
    (there,) = ELSEWHERE
    await dialogs.start(intake, there)
    await dialogs.start(other, there)


ELSEWHERE: list[tuple[ChatAddress, str]] = []


async def test_one_that_meets_an_open_one_in_another_chat_is_parked_and_begins_when_it_is_taken_up(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    ELSEWHERE[:] = [(ChatAddress.parse(bo.address), bo.id)]
    await an.says("allebei")

    (parked,) = await bot_test.bot.parked()
    assert parked.reason.startswith("the dialog other has not begun. The dialog intake is open")
    await bo.answers("Bo")
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert [seen.body for seen in bo.sees] == ["Naam?", "Bo", "Iets anders?"]


async def test_what_is_not_certain_in_time_is_not_said_to_have_begun(
    healthmsg_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthmsg.bot.bot._BEGINS_WITHIN", 0.0)
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    started = await bot_test.bot.start_dialog(DialogRequest(dialog="intake", user=an.id))
    assert not started.has_begun
    await bot_test.idle()
    assert await bot_test.bot.dialog(started.id) is not None


@router.dialog
async def stillborn(d: Dialog) -> None:
    raise ZeroDivisionError


async def test_one_whose_code_fails_is_not_waited_for(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    async with asyncio.timeout(5):
        started = await bot_test.bot.start_dialog(DialogRequest(dialog="stillborn", user=an.id))
    assert not started.has_begun
    assert await bot_test.bot.dialog(started.id) is None
