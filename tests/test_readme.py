"""Every Python example in README.md runs, against the sandbox."""

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from types import CodeType
from typing import Any, Final

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

import healthmsg
import healthmsg.bot as bots
from healthmsg import Client, OAuthApp, Outcome
from healthmsg.bot import Bot, BotChat, Router
from healthmsg.bot.testing import BotTest, VirtualClock, bot_maker
from healthmsg.cli.app import app
from healthmsg.cli.bots.loading import is_bot, load_bot
from healthmsg.events import TimerDue
from healthmsg.sandbox import CutAfter, Sandbox
from tests.waiting import until

ROOT: Final = Path(healthmsg.__path__[0]).parent
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(WHOLE_PROGRAM, A_TEST, SIGN_IN, CHATS, QUESTION, GROUPS, VIEWS, WEB, EVENTS) = range(9)
(TYPING, BOT, HANDLERS, TIMES, BOT_TEST) = range(9, 14)
(BULK, JOURNAL, FLEET, FILES, MANY_FILES, ERRORS, NETWORKS, WATCHING, RAW) = range(14, 23)


def test_all_examples_are_known_here() -> None:
    assert len(EXAMPLES) == 23
    for index, word in (
        (WHOLE_PROGRAM, "asyncio.run"),
        (A_TEST, "healthmsg_sandbox"),
        (SIGN_IN, "OAuthApp"),
        (CHATS, "client.auxiliary"),
        (QUESTION, "Option"),
        (GROUPS, "groupchats.create"),
        (VIEWS, "client.with_token"),
        (WEB, "web.Application"),
        (EVENTS, "events"),
        (TYPING, "typing()"),
        (BOT, "bot = Bot("),
        (HANDLERS, "@router.answered"),
        (TIMES, "bot.campaign"),
        (BOT_TEST, "healthmsg_bot"),
        (BULK, "send_many"),
        (JOURNAL, "recall.db"),
        (FLEET, "SharedLimit"),
        (FILES, "upload"),
        (MANY_FILES, "upload_many"),
        (ERRORS, "except"),
        (NETWORKS, "with_options"),
        (WATCHING, "client.stats()"),
        (RAW, "on_response"),
    ):
        assert word in EXAMPLES[index]


def compiled(example: str) -> CodeType:
    code: CodeType = compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def run(example: str, **names: Any) -> dict[str, Any]:
    scope = {"__name__": "readme", **names}
    result = eval(compiled(example), scope)  # noqa: S307 - our own README
    if inspect.isawaitable(result):
        await result
    return scope


def test_the_first_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    program = EXAMPLES[WHOLE_PROGRAM]
    serving = "async def main() -> None:\n    async with Client("
    assert serving in program
    # Its own service instead of Alterdesk's, within the one event loop that the program runs.
    here = "async def main() -> None:\n    async with Sandbox() as sandbox, Client("
    program = program.replace(serving, here)
    program = program.replace('"an access token"', "sandbox.issue_token()")
    program = program.replace("Environment.ALTERDESK", "sandbox.environment")
    program = program.replace('"the id of one of them"', "chat.id")

    exec(compiled(program), {"Sandbox": Sandbox})  # noqa: S102 - our own README

    out = capsys.readouterr().out
    assert re.search(r"^[-0-9a-f]{36} Zoë Mulder$", out, re.MULTILINE)
    assert "None" not in out
    assert "Accepted as" in out


@pytest.mark.slow
def test_the_example_of_a_test_passes_as_it_is_written(tmp_path: Path) -> None:
    (settings,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    (tmp_path / "test_reminders.py").write_text(EXAMPLES[A_TEST], encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "1 passed" in done.stdout, done.stdout


async def test_signing_in_works_as_shown(
    sandbox: Sandbox, session: ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, _, second = EXAMPLES[SIGN_IN].partition("# Send the user's browser")
    sandbox_app = OAuthApp(
        "healthmsg-sandbox", sandbox.client_secret, "http://localhost:8765/callback", sandbox.environment
    )
    monkeypatch.setattr(healthmsg, "OAuthApp", lambda *_: sandbox_app)

    scope = await run(first, environment=sandbox.environment)
    async with session.get(scope["request"].url, allow_redirects=False) as answer:
        scope["callback_url"] = answer.headers["Location"]
    scope = await run(f"# {second}", **scope)

    async with scope["client"] as client:
        assert (await client.me.get()).id == sandbox.user_id


async def test_chats_work_as_shown(client: Client, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(aux_id="patient 7")

    patient = (await client.conversations(chat).get()).user
    scope = await run(
        EXAMPLES[CHATS],
        client=client,
        conversation_id=chat,
        user_id=patient and patient.id,
        print=lambda *_: None,
    )

    assert scope["newest"].body == "Hallo"
    assert (await scope["with_a_person"].messages().first()).id == scope["newest"].id
    assert [message.body for message in sandbox.messages("aux/conversations/patient 7")] == ["Hallo"]


async def test_questions_work_as_shown(client: Client, sandbox: Sandbox) -> None:
    patient = sandbox.add_user("An", "Visser")
    chat = client.conversations(sandbox.add_conversation(user=patient))
    said: list[tuple[object, ...]] = []
    asking, reading, answers = EXAMPLES[QUESTION].partition("message = ")

    scope = await run(asking, chat=chat, patient_id=patient)
    sandbox.answer(patient, scope["sent"], "nee")
    await run(reading + answers, **scope, print=lambda *words: said.append(words))

    assert said == [(patient, ("nee",))]


async def test_group_chats_and_people_work_as_shown(client: Client, sandbox: Sandbox) -> None:
    colleague = (await client.company.users().first_page())[1]
    said: list[tuple[object, ...]] = []

    scope = await run(
        EXAMPLES[GROUPS], client=client, colleague_id=colleague.id, print=lambda *words: said.append(words)
    )

    assert [words[1:] for words in said] == [(True, True), (False, True), (False, False)]
    assert (await scope["group"].get()).closed
    assert (await scope["conversation"].get()).user.first_name == "Jo"
    assert (await client.auxiliary.users.get("patient 4711")).id == scope["patient"].id


async def test_views_work_as_shown(sandbox: Sandbox) -> None:
    jansen = sandbox.add_user("Jansen", "de Wit")
    said: list[tuple[object, ...]] = []

    await run(
        EXAMPLES[VIEWS],
        Client=Client,
        token=sandbox.issue_token(),
        token_of_jansen=sandbox.issue_token(jansen),
        environment=sandbox.environment,
        print=lambda *words: said.append(words),
    )

    assert said[0][0] == "Jansen"
    assert isinstance(said[0][1], healthmsg.Quota)


async def test_a_web_service_works_as_shown(
    sandbox: Sandbox, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.add_conversation(aux_id="P1")
    monkeypatch.setenv("HEALTHMSG_TOKEN", sandbox.issue_token())
    monkeypatch.setenv("HEALTHMSG_API_URL", sandbox.environment.api_url)
    monkeypatch.delenv("HEALTHMSG_ENVIRONMENT", raising=False)
    scope = await run(EXAMPLES[WEB])
    answers = []

    async with TestServer(scope["app"]) as server:
        for patient, text in (("P1", "Tot morgen!"), ("P1", " "), ("P2", "Tot morgen!"), ("P1", "En?")):
            if text == "En?":
                sandbox.faults.add(kind=CutAfter(), method="POST")
            asked = {"patient": patient, "text": text}
            async with session.post(server.make_url("/reminders"), json=asked) as answer:
                answers.append((answer.status, await answer.json()))

    first, last = (message.id for message in sandbox.messages("aux/conversations/P1"))
    assert answers == [
        (200, {"state": "delivered", "message_id": first}),
        (400, {"refused": "a message needs a text, or files"}),
        (502, {"state": "not sent", "problem": "answered 404 Not Found"}),
        (504, {"state": "unknown"}),
    ]
    assert last != first


async def test_events_are_handled_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with (
        Sandbox(sample_data=False) as sandbox,
        Client(sandbox.issue_token(), environment=sandbox.environment) as client,
    ):
        chat = sandbox.add_conversation()
        running = asyncio.create_task(run(EXAMPLES[EVENTS], client=client))
        await until(sandbox.gateway.connected)
        sandbox.say(None, chat, "Mag ik een afspraak?")
        await until(lambda: len(sandbox.messages(f"conversations/{chat}")) == 2)
        running.cancel()

        bodies = [message.body for message in sandbox.messages(f"conversations/{chat}")]
        assert bodies == ["Mag ik een afspraak?", "De balie belt u terug."]


async def test_typing_and_presence_work_as_shown(client: Client, sandbox: Sandbox) -> None:
    await run(EXAMPLES[TYPING], client=client, conversation_id=sandbox.add_conversation())


@pytest.mark.slow
async def test_a_bot_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Sandbox(sample_data=False) as sandbox:
        monkeypatch.setenv("HEALTHMSG_TOKEN", sandbox.issue_token())
        monkeypatch.setenv("HEALTHMSG_API_URL", sandbox.environment.api_url)
        monkeypatch.delenv("HEALTHMSG_ENVIRONMENT", raising=False)
        patient = sandbox.add_user("An", "Visser")
        chat = sandbox.add_conversation(user=patient)
        bot = (await run(EXAMPLES[BOT]))["bot"]
        async with bot:
            running = asyncio.create_task(bot.run(signals=False))
            await until(sandbox.gateway.connected)
            for count, said in enumerate(("Hallo", "afspraak", "Afspraak", "An Visser"), start=1):
                sandbox.say(patient, chat, said)
                await until(lambda: len(sandbox.messages(f"conversations/{chat}")) == 2 * count)  # noqa: B023
            bot.stop()
            await running

        assert [message.body for message in sandbox.messages(f"conversations/{chat}")][1::2] == [
            "Typ *afspraak*, of *help*.",
            "Wat is uw naam?",
            "Antwoord eerst op mijn vraag, of typ *stop*.",
            "Pijn van 0 tot 10?",
        ]


async def test_a_bot_of_the_command_line_is_the_one_shown(tmp_path: Path) -> None:
    (tmp_path / "visits_of_readme.py").write_text(EXAMPLES[BOT], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.syspath_prepend(tmp_path)

        assert is_bot(load_bot("visits_of_readme:bot"))


class AgendaDown(Exception):  # noqa: N818 - as the example calls it
    """The agenda does not answer."""


class Agenda:
    """An agenda that is down at first."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, object, str]] = []
        self.is_down = True

    async def note(self, user: str, option: object, *, idempotency_key: str) -> None:
        if self.is_down:
            raise AgendaDown
        self.noted.append((user, option, idempotency_key))


async def test_handlers_work_as_shown() -> None:
    names = {**vars(bots), "Enum": Enum, "timedelta": timedelta, "Agenda": Agenda, "AgendaDown": AgendaDown}
    shown = await run(EXAMPLES[HANDLERS], **{**names, "router": Router()})
    agenda = Agenda()
    async with BotTest(bot_maker(shown["router"], provide=[agenda]), allow_parked=True) as bot_test:
        an = bot_test.patient("An")
        await an.says("Hoe laat moet ik er zijn?")
        await an.presses("Ik kom niet")
        await bot_test.advance(minutes=1)
        assert an.sees[-1].body == "Dat lukt nu niet. Een collega belt u."
        agenda.is_down = False
        await an.presses("Ik kom")

        assert an.sees[-1].body == "Genoteerd."
        assert [(user, option) for user, option, _ in agenda.noted] == [(an.id, shown["Visit"].CONFIRM)]


async def test_times_and_campaigns_are_set_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    visits = await run(EXAMPLES[BOT])

    async def announce(event: TimerDue, chat: BotChat) -> None:
        await chat.send(f"Goedemorgen. {event.due:%d-%m}")

    people: dict[str, Any] = {}

    def set_up(bot: Bot) -> None:
        if people:
            names = {**vars(bots), "date": date, "datetime": datetime, "UTC": UTC}
            exec(compiled(EXAMPLES[TIMES]), {**names, **people, "bot": bot, "visit": visits["visit"]})  # noqa: S102

    parts, now = [visits["router"], set_up], datetime(2026, 11, 30, 12, tzinfo=UTC)
    async with BotTest(bot_maker(*parts), clock=VirtualClock(now)) as bot_test:
        an = bot_test.patient("An")
        team = bot_test.group("Team", an)
        people.update(announce=announce, team=team.address, patient_id=an.id)
        await bot_test.kill_and_restart()
        await bot_test.advance(days=1)

        assert [seen.body for seen in team.sees] == ["Goedemorgen. 01-12"]
        assert [seen.body for seen in an.sees] == ["Wat is uw naam?"]


@pytest.mark.slow
def test_the_test_of_a_bot_passes_as_it_is_written(tmp_path: Path) -> None:
    (settings,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    (tmp_path / "visits.py").write_text(EXAMPLES[BOT], encoding="utf-8")
    (tmp_path / "test_visits.py").write_text(EXAMPLES[BOT_TEST], encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "1 passed" in done.stdout, done.stdout


async def test_bulk_sending_works_as_shown(client: Client, sandbox: Sandbox) -> None:
    chats = [sandbox.add_conversation() for _ in range(3)]
    said: list[object] = []

    await run(
        EXAMPLES[BULK], client=client, chat_ids=[*chats, "nowhere"], print=lambda *words: said.append(words)
    )

    assert all(len(sandbox.messages(f"conversations/{chat}")) == 1 for chat in chats)
    assert len(said) == 1


async def test_a_campaign_with_a_journal_works_as_shown(
    client: Client, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chats = [sandbox.add_conversation() for _ in range(3)]
    said: list[tuple[object, ...]] = []

    for _ in range(2):
        await run(
            EXAMPLES[JOURNAL],
            client=client,
            chat_ids=[*chats, "nowhere"],
            print=lambda *words: said.append(words),
        )

    assert all(len(sandbox.messages(f"conversations/{chat}")) == 1 for chat in chats)
    assert said[0] == (4, 0, 0, 0, 4 / 30)
    assert said[1] == (3, 1, 0)
    assert said[2][:2] == (3, healthmsg.Outcome.NOT_SENT)
    assert said[3] == (0, 3, 0, 0, 0)
    assert said[4:] == [(3, 1, 0), said[5]]


async def test_the_client_of_a_fleet_is_made_as_shown(sandbox: Sandbox) -> None:
    names = await run(EXAMPLES[FLEET], token=sandbox.issue_token(), environment=sandbox.environment)
    async with names["client"] as client:
        assert client.stats().limit.source == "postgresql"


async def test_files_work_as_shown(
    client: Client, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("uitslag.pdf", "scan.png"):
        await asyncio.to_thread((tmp_path / name).write_bytes, name.encode())
    (tmp_path / "downloads").mkdir()
    chat = client.conversations(sandbox.add_conversation())

    async def export() -> AsyncIterator[bytes]:
        yield b"naam;datum"

    scope = await run(EXAMPLES[FILES], chat=chat, pdf_bytes=b"%PDF-1.7", export=export)

    assert scope["path"].read_bytes() == b"naam;datum"
    assert scope["path"].name == "export.csv"


async def test_many_files_go_as_shown(
    client: Client, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scan.png", "brief.pdf", "foto.jpg"):
        await asyncio.to_thread((tmp_path / name).write_bytes, name.encode())
    one, other = sandbox.add_conversation(), sandbox.add_conversation()

    names = {"client": client, "chat": client.conversations(one), "chat_id": other}
    scope = await run(EXAMPLES[MANY_FILES], **names)

    assert len(sandbox.messages(f"conversations/{other}")[0].attachments) == 2
    assert len(list((tmp_path / "attachments").iterdir())) == 1
    assert (scope["archive"].messages, scope["archive"].attachments) == (1, 1)


@pytest.mark.parametrize("text", ["Hallo", ""])
async def test_errors_are_handled_as_shown(client: Client, sandbox: Sandbox, text: str) -> None:
    chat = client.conversations(sandbox.add_conversation())

    await run(EXAMPLES[ERRORS], client=client, chat=chat, text=text)


async def test_what_became_of_a_message_is_found_out_as_shown(
    client: Client, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = sandbox.add_conversation()
    sandbox.faults.add(kind=CutAfter(), method="POST")

    await run(EXAMPLES[ERRORS], client=client, chat=client.conversations(chat), text="Hallo")

    (message,) = sandbox.messages(f"conversations/{chat}")
    assert capsys.readouterr().out == f"{Outcome.DELIVERED} {message.id}\n"


async def test_networks_and_times_are_set_as_shown(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await asyncio.to_thread((tmp_path / "scan.png").write_bytes, b"scan")
    chat = sandbox.add_conversation()
    direct = re.sub(r'(proxy|ssl)=".*"', r"\1=None", EXAMPLES[NETWORKS])
    assert direct.count("=None") == 2

    await run(direct, token=sandbox.issue_token(), environment=sandbox.environment, conversation_id=chat)

    assert len(sandbox.messages(f"conversations/{chat}")) == 1


async def test_watching_works_as_shown(sandbox: Sandbox) -> None:
    said: list[tuple[object, ...]] = []

    await run(
        EXAMPLES[WATCHING],
        Client=Client,
        token=sandbox.issue_token(),
        environment=sandbox.environment,
        conversation_id=sandbox.add_conversation(),
        print=lambda *words: said.append(words),
    )

    assert said == [(1, 0, 0, 0.0, 0, 0)]


async def test_raw_answers_can_be_had_as_shown(client: Client, sandbox: Sandbox) -> None:
    said: list[tuple[Any, ...]] = []

    await run(EXAMPLES[RAW], client=client, print=lambda *words: said.append(words))

    ((status, date, document),) = said
    assert (status, document["id"]) == (200, sandbox.user_id)
    assert date.endswith("GMT")


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`(healthmsg/[\w/.]+)`", README))

    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_retry_table_is_that_of_the_code() -> None:
    from healthmsg.pipeline import retry

    rows = re.findall(r"^\|.*\|$", retry.__doc__ or "", re.MULTILINE)
    assert len(rows) > 10
    assert "\n".join(rows) in README
    assert f"up to {healthmsg.Retries().attempts} times" in README
    assert f"Retries(max_wait={healthmsg.Retries().max_wait:.0f})" in README


def test_the_commands_of_the_command_line_are_known() -> None:
    named = set(re.findall(r"(?:`|^|\| )healthmsg ([a-z]+[a-z-]*)", README, re.MULTILINE))

    assert {"chats", "send", "send-many", "journal", "sandbox"} <= named
    for command in named:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


def test_the_commands_are_marked_for_ci() -> None:
    for name in ("demo", "tests"):
        assert re.search(rf"<!-- command: {name} -->\n```sh\n[^\n]+\n```", README)
