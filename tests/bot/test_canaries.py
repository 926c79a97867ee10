"""What patients say, their names and tokens: in no log, repr, traceback or output unless asked for."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, Router, command, text
from healthmsg.bot.control import Control
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.cli.bots.lines import line_of
from tests.cli.command_line import Done, invoke

NAME, SAID, TOKEN, ANSWER = "KanarieNaam", "KanarieTekst", "kanarie-token", "KanarieAntwoord"
CANARIES = (NAME, SAID, TOKEN, ANSWER)
router = Router()


@router.message(text(prefix="stuk "))
async def broken(message: IncomingMessage) -> None:
    raise ValueError(message.body)


@router.message(command("intake"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(intake, message, SAID, answers={"known": ANSWER})


@router.dialog
async def intake(d: Dialog, said: str) -> None:
    known = await d.text(f"Klopt {said}?", key="known")
    what = await d.text(f"Wat is er, {known}?")
    if what.startswith("fout"):
        raise ValueError(what)
    if what.startswith("wacht"):
        await asyncio.sleep(0, what)
    if what.startswith("dood"):
        await d.once(failing, what)
    if what.startswith("mens"):
        await d.hand_over(what)
    await d.confirm(what)


def failing(what: str) -> None:
    raise KeyError(what)


def leaked(*shown: object) -> list[str]:
    return [canary for canary in CANARIES for one in shown if canary.lower() in str(one).lower()]


@pytest.fixture
def complaints() -> list[str]:
    """Return what the event loop was told of."""
    return []


@pytest.fixture
async def bot_test(
    healthmsg_bot: StartBot, caplog: pytest.LogCaptureFixture, complaints: list[str]
) -> BotTest:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("healthmsg").setLevel(logging.DEBUG)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(repr(context)))
    return await healthmsg_bot(router, allow_parked=True)


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    yield
    logging.getLogger("healthmsg").setLevel(logging.NOTSET)


async def everything_goes_wrong(bot_test: BotTest) -> list[Patient]:
    """Let handlers and dialogs fail in each way, with what a patient said in the errors."""
    people = [bot_test.patient(f"{NAME}{n}") for n in range(6)]
    await people[0].says(f"stuk {SAID}")
    for one, how in zip(people[1:], ("fout", "wacht", "dood", "mens", "heel"), strict=True):
        await one.says("intake")
        await one.answers(f"{how} {SAID}")
    await bot_test.advance(minutes=5)
    await people[1].says(f"nog iets {SAID}")
    await bot_test.advance(minutes=5)
    return people


async def called(*arguments: object) -> Done:
    return await asyncio.to_thread(invoke, *map(str, arguments))


def store_of(bot_test: BotTest) -> Path:
    """Kill the bot, and return the store that it leaves."""
    bot_test.kill()
    found = bot_test._heir
    assert found is not None
    return found


async def test_nothing_that_was_said_is_logged_or_shown_of_objects(
    bot_test: BotTest, caplog: pytest.LogCaptureFixture, complaints: list[str]
) -> None:
    people = await everything_goes_wrong(bot_test)
    bot = bot_test.bot
    parked, dialogs = await bot.parked(), await bot.open_dialogs()

    assert {one.state for one in dialogs} == {"open", "held"}
    assert len(parked) >= 2
    shown = [bot, bot_test, router, intake, parked, dialogs, await bot.stats(), await bot.unknown_replies()]
    assert leaked(*map(repr, shown)) == []
    assert leaked(*map(line_of, bot_test.handled), *map(repr, bot_test.handled)) == []
    assert leaked(caplog.text, *complaints) == []
    assert not any(one.id in caplog.text for one in people)
    assert caplog.text.count(__file__) >= 3  # where it failed


async def test_show_and_check_have_texts_only_when_asked(
    bot_test: BotTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await everything_goes_wrong(bot_test)
    store = store_of(bot_test)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "author_of_canaries.py").write_text(
        "from healthmsg.bot import Bot, Dialog, Router\n"
        "router = Router()\n"
        "@router.dialog\n"
        "async def intake(d: Dialog, said: str) -> None:\n"
        "    await d.text('Iets anders?')\n"
        "    await d.once(print, said)\n"
        "bot = Bot(store='x.db')\nbot.include(router)\n"
    )

    done = [
        await called("bot", "show", store),
        await called("bot", "show", store, "--json"),
        await called("bot", "check", store, "author_of_canaries:bot"),
        await called("bot", "check", store, "author_of_canaries:bot", "--json"),
    ]
    assert [one.code for one in done] == [0, 0, 1, 1]
    assert leaked(*done) == []
    assert len(json.loads(done[1].out)["dialogs"]) == 5
    asked = await called("bot", "show", store, "--texts")
    assert set(leaked(asked.out)) == {SAID, ANSWER}


async def test_the_control_surface_says_and_logs_nothing_private(
    bot_test: BotTest, caplog: pytest.LogCaptureFixture
) -> None:
    an, *_ = await everything_goes_wrong(bot_test)
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/stats", None),
        ("GET", f"/schedule/{SAID}", None),
        ("GET", f"/{SAID}", None),
        ("POST", "/dialogs", {"dialog": "another", "user": an.id}),
        ("POST", "/dialogs", {"dialog": "intake", "user": SAID}),
        ("POST", "/dialogs", {"dialog": "intake", "chat": f"conversations/{SAID}"}),
        ("POST", "/dialogs", {"dialog": "intake", "chat": SAID}),
        ("POST", "/dialogs", {"dialog": "intake", "user": an.id, "answers": {SAID: ANSWER}}),
        ("POST", "/dialogs", {SAID: ANSWER}),
        ("POST", "/schedule", {"dialog": "intake", "user": an.id, "at": SAID}),
        ("POST", "/schedule", {"dialog": "intake", "user": an.id, "times": "08:00", "tz": SAID}),
        (
            "POST",
            "/schedule",
            {"dialog": "intake", "user": an.id, "times": ["08:00"], "answers": {"a": SAID}},
        ),
        ("POST", "/retry", {"sequence": SAID}),
        ("POST", "/stop", {"when": SAID}),
    ]
    control = Control(bot_test.bot, TOKEN)
    assert TOKEN not in repr(control)
    async with control, aiohttp.ClientSession() as session:
        answers = []
        for token in (TOKEN, f"{TOKEN}x"):
            for method, path, body in requests:
                headers = {"Authorization": f"Bearer {token}"}
                url = f"http://127.0.0.1:{control.port}{path}"
                async with session.request(method, url, json=body, headers=headers) as answer:
                    answers.append((answer.status, await answer.text(), dict(answer.headers)))

    assert leaked(*answers) == []
    assert {status for status, *_ in answers[: len(requests)]} >= {200, 201, 400, 404, 502}
    assert {status for status, *_ in answers[len(requests) :]} == {401}
    await bot_test.idle()
    assert leaked(caplog.text) == []


@pytest.mark.parametrize(
    "request_",
    [
        f"GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\x00\r\n\r\n",
        f"GET /{SAID} {SAID} {SAID}\r\n\r\n",
        f"POST / HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n{SAID}\r\n",
        f"POST /dialogs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SAID}\r\n\r\n",
    ],
    ids=["header", "line", "chunk", "length"],
)
async def test_the_control_surface_logs_nothing_of_a_request_that_it_cannot_read(
    bot_test: BotTest, request_: str, caplog: pytest.LogCaptureFixture, complaints: list[str]
) -> None:
    async with Control(bot_test.bot, TOKEN) as control:
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        writer.write(request_.encode("latin-1"))
        answer = await reader.read(1000)
        writer.close()

    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert leaked(caplog.text, *complaints) == []
