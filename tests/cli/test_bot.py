"""`healthmsg bot`: finding the bot, its log, and what a person sees and does beside it."""

import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import pytest

from healthmsg.bot.store.records import DialogRecord, ParkedEvent, StepRecord
from healthmsg.bot.surface import Handled
from healthmsg.bulk import JournalMessage
from healthmsg.bulk.journal import State
from healthmsg.cli.bots import stores
from healthmsg.cli.bots.lines import line_of
from healthmsg.cli.bots.loading import folder_to_watch, load_bot, parse_name
from healthmsg.cli.problems import RefusedError
from healthmsg.errors import JournalInUseError
from healthmsg.events import MessageCreated
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from tests.bot.fake_bot import SilentBot
from tests.bot.fakes import FakeStore
from tests.cli.command_line import invoke

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "CANARY"
MAKES_A_BOT = "from tests.bot.fake_bot import SilentBot\nbot = SilentBot()\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Return what writes a module of an author's in the present folder, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before, made = set(sys.modules), list[str]()

    def write(text: str) -> str:
        name = f"authors_{len(made)}_{tmp_path.name}"
        made.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("authors_"):
            del sys.modules[name]


def problem_with(target: str) -> str:
    with pytest.raises(RefusedError) as refusal:
        load_bot(target)
    # No traceback of the author's, or of ours, is shown with it.
    assert refusal.value.__context__ is None
    return refusal.value.text


# --- finding the bot


def test_a_bot_is_found_by_its_name_or_made_by_a_function(module: Callable[[str], str]) -> None:
    name = module(
        f"{MAKES_A_BOT}\nclass Place:\n    inner = bot\n\ndef make():\n    made = SilentBot()\n"
        "    made.asked.append('made')\n    return made\n"
    )
    bot = load_bot(f"{name}:bot")
    assert isinstance(bot, SilentBot)
    assert load_bot(f"{name}:Place.inner") is bot
    made = load_bot(f"{name}:make")
    assert isinstance(made, SilentBot)
    assert made.asked == ["made"]


@pytest.mark.parametrize("target", ["bot", "bot:", ":bot", "bot.py:bot", "a/b:bot", "a b:bot", "a:b:c"])
def test_a_name_that_is_no_module_and_bot_is_refused(target: str) -> None:
    with pytest.raises(RefusedError, match="module:bot"):
        parse_name(target)


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("bot = 7\n", "bot", "is no Bot.* of the type int"),
        (MAKES_A_BOT, "other", "has no other"),
        (MAKES_A_BOT, "SilentBot", "is no Bot.* of the type"),
        (f"{MAKES_A_BOT}async def make():\n    return bot\n", "make", "is no Bot.* of the type coroutine"),
        ("x = 1\ny = (\n", "bot", r"^authors_\S+\.py:2: SyntaxError: '\(' was never closed$"),
        (
            "x = 1\nimport not_there_at_all\n",
            "bot",
            r"^authors_\S+\.py:2: ModuleNotFoundError: No module named",
        ),
        ("x = 1\nx = y\n", "bot", r"^authors_\S+\.py:2: NameError: name 'y' is not defined$"),
        (f"def f():\n    raise ValueError('{SECRET}')\nf()\n", "bot", r"^authors_\S+\.py:2: ValueError$"),
        (f"def make():\n    return {{}}['{SECRET}']\n", "make", r"^authors_\S+\.py:2: KeyError$"),
        ("def make(x):\n    pass\n", "make", r"^TypeError$"),
        ("import sys\nsys.exit(3)\n", "bot", r"^authors_\S+\.py:2: SystemExit$"),
        (
            "from healthmsg import Option\n\nOption('')\n",
            "bot",
            r"^authors_\S+\.py:3: an option's label .*",
        ),
    ],
)
def test_what_is_wrong_in_the_module_is_shown_with_file_and_line(
    module: Callable[[str], str], text: str, name: str, problem: str
) -> None:
    shown = problem_with(f"{module(text)}:{name}")
    assert re.search(problem, shown), shown
    assert SECRET not in shown


def test_a_module_that_is_not_there_is_named(module: Callable[[str], str]) -> None:
    assert "no module not_there_at_all in this folder" in problem_with("not_there_at_all:bot")


def test_the_command_prints_one_line_and_no_traceback(module: Callable[[str], str]) -> None:
    done = invoke("bot", "run", f"{module('x = (')}:bot")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


def test_the_folder_to_watch_is_the_module_s_and_nothing_is_imported(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    package = tmp_path / "authors_package"
    package.mkdir()
    assert folder_to_watch(f"{module('raise SystemExit')}:bot") == tmp_path
    assert folder_to_watch("authors_package.sub.bot:bot") == package
    with pytest.raises(RefusedError):
        folder_to_watch("not_there_at_all:bot")


# --- the log


def handled(**fields: Any) -> Handled:
    known: dict[str, Any] = {
        "at": NOON,
        "event_id": SECRET,
        "kind": "message_created",
        "chat": ChatAddress.parse("conversations/c1"),
        "handler": "intake (bot.py:12)",
        "seconds": 0.0123,
        "ended": "done",
    }
    return Handled(**(known | fields))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "conversations/c1  message_created  intake (bot.py:12)  12 ms  done"),
        (
            {"ended": "again", "reason": "EhrDown", "attempt": 2, "seconds": 61.04},
            "conversations/c1  message_created  intake (bot.py:12)  61.0 s  AGAIN: EhrDown (attempt 2)",
        ),
        (
            {"ended": "parked", "reason": "KeyError"},
            "conversations/c1  message_created  intake (bot.py:12)  12 ms  PARKED: KeyError",
        ),
        (
            {"chat": None, "handler": "", "ended": "ignored", "kind": "presence_changed"},
            "-  presence_changed  -  12 ms  no handler",
        ),
        (
            {"chat": ChatAddress.parse(f"aux/conversations/{SECRET}")},
            "aux/conversations/{aux_id}  message_created  intake (bot.py:12)  12 ms  done",
        ),
    ],
)
def test_a_line_says_when_where_what_which_handler_how_long_and_how_it_ended(
    fields: dict[str, Any], line: str
) -> None:
    assert line_of(handled(**fields)) == f"{NOON.astimezone():%H:%M:%S}  {line}"


def test_a_line_stays_a_line_and_has_nothing_private() -> None:
    line = line_of(handled(handler="a\nb\x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert SECRET not in line


# --- the store


class StoreOfNone(FakeStore):
    """A store that no bot has, unless a test says so."""

    is_free = True
    identity = "5107e"

    @property
    def inbox(self) -> Self:
        return self

    async def hold_at_once(self) -> bool:
        return self.is_free


def store_with_everything() -> StoreOfNone:
    store = StoreOfNone()
    states: tuple[Literal["open", "held"], ...] = ("open", "held")
    for number, state in enumerate(states, start=1):
        store.dialog_records[f"d{number}"] = DialogRecord(
            f"d{number}",
            "intake",
            2,
            "conversations/c1",
            f"u{number}",
            state,
            "{}",
            NOON,
            NOON,
        )
    store.step_records["d1", 0] = StepRecord("d1", 0, "text", "Naam?", f'"{SECRET}"', "k")
    store.step_records["d1", 1] = StepRecord("d1", 1, "number", f"Pijn van {SECRET}?")
    message = Message("m1", body=SECRET, user_id="u1")
    event = MessageCreated.of(ChatAddress.parse("conversations/c1"), message, me="me", received_at=NOON)
    store.parked_events[7] = ParkedEvent(7, event, "KeyError", NOON)
    return store


def unknown() -> JournalMessage:
    return JournalMessage(
        key="k1/1",
        position=1,
        to="conversations/c1",
        body=SECRET,
        files=(),
        question=None,
        state=State.UNKNOWN,
        is_final=False,
        message_id=None,
        error="the connection was lost",
        attempts=1,
        started_at=NOON,
        sent_to=None,
        updated_at=NOON,
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StoreOfNone, Path]:
    """Return a store with everything in it, and the path by which the commands find it."""
    path, made = tmp_path / "bot.db", store_with_everything()
    path.touch()

    @asynccontextmanager
    async def opened(_: object) -> AsyncIterator[StoreOfNone]:
        yield made

    async def replies(_: object) -> list[JournalMessage]:
        return [unknown()]

    monkeypatch.setattr("healthmsg.cli.bot.open_store", opened)
    monkeypatch.setattr("healthmsg.cli.bot.unknown_replies", replies)
    monkeypatch.setattr(stores, "open_to_change", opened)
    return made, path


def test_show_prints_dialogs_parked_events_and_unknown_replies(store: tuple[StoreOfNone, Path]) -> None:
    done = invoke("bot", "show", store[1])
    noon = f"{NOON.astimezone():%Y-%m-%d %H:%M}"

    assert done.code == 0
    assert done.out.splitlines() == [
        "store 5107e",
        "1 open dialog",
        f"  d1  intake v2  conversations/c1  since {noon}, last change {noon}, 2 steps, waits for number",
        "1 held dialog",
        f"  d2  intake v2  conversations/c1  since {noon}, last change {noon}, 0 steps",
        (
            "Let one go on with: healthmsg bot take-back STORE DIALOG, or end it with:"
            " healthmsg bot end STORE DIALOG"
        ),
        "1 parked event",
        f"  7  message_created  conversations/c1  {noon}  KeyError",
        "Take one up again with: healthmsg bot retry STORE SEQUENCE",
        "1 reply not known to have arrived",
        f"  k1/1  conversations/c1  {noon}  the connection was lost",
        "Settle one with: healthmsg journal decide STORE KEY delivered|not-sent",
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_show_has_what_was_said_only_if_it_is_asked_for(
    store: tuple[StoreOfNone, Path], as_json: bool
) -> None:
    options = ["--json"] if as_json else []
    assert SECRET not in invoke("bot", "show", store[1], *options).out
    with_texts = invoke("bot", "show", store[1], "--texts", *options).out
    assert with_texts.count(SECRET) >= 4  # an answer, a question, an event and a reply


def test_show_prints_one_json_object(store: tuple[StoreOfNone, Path]) -> None:
    shown = json.loads(invoke("bot", "show", store[1], "--json").out)
    assert [(one["id"], one["state"], one["waits_for"]) for one in shown["dialogs"]] == [
        ("d1", "open", "number"),
        ("d2", "held", None),
    ]
    assert [(one["sequence"], one["event"]["kind"]) for one in shown["parked"]] == [(7, "message_created")]
    assert [one["key"] for one in shown["unknown_replies"]] == ["k1/1"]


def test_a_store_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    for command in (("show", path), ("retry", path, "7"), ("check", path, "json:dumps")):
        done = invoke("bot", *command)
        assert (done.code, done.err) == (2, done.err)
        assert "no such store" in done.err
    assert not path.exists()


# --- run


def test_a_bot_whose_store_another_process_has_is_not_begun(module: Callable[[str], str]) -> None:
    name = module(
        f"{MAKES_A_BOT}from healthmsg.errors import JournalInUseError\n"
        "class InUse(SilentBot):\n"
        "    async def __aenter__(self):\n"
        "        raise JournalInUseError('it is in use')\n"
        "bot = InUse()\n"
    )
    done = invoke("bot", "run", f"{name}:bot")

    assert done.code == 1
    assert done.err.endswith("Error: another process has the store of this bot: nothing was begun\n")


# --- check


@pytest.mark.parametrize("as_json", [False, True])
def test_check_names_the_dialogs_that_do_not_fit_and_fails(
    store: tuple[StoreOfNone, Path], module: Callable[[str], str], as_json: bool
) -> None:
    name = module(
        f"{MAKES_A_BOT}from healthmsg.bot.surface import DialogProblem\n"
        "bot.problems = [DialogProblem('d1', 'intake', 2, 'step 2 was other', 'asked_again')]\n"
    )
    done = invoke("bot", "check", store[1], f"{name}:bot", *(["--json"] if as_json else []))

    assert done.code == 1
    if as_json:
        assert json.loads(done.out) == {
            "dialogs": 2,
            "problems": [
                {
                    "id": "d1",
                    "name": "intake",
                    "version": 2,
                    "result": "asked_again",
                    "problem": "step 2 was other",
                }
            ],
        }
    else:
        assert done.out.splitlines() == [
            "intake v2  d1  would ask again: step 2 was other",
            "1 of 2 open dialogs fit this code.",
        ]


def test_check_succeeds_where_all_fit(store: tuple[StoreOfNone, Path], module: Callable[[str], str]) -> None:
    done = invoke("bot", "check", store[1], f"{module(MAKES_A_BOT)}:bot")
    assert (done.code, done.out) == (0, "2 of 2 open dialogs fit this code.\n")


# --- retry


def test_retry_takes_an_event_up_in_a_store_that_no_bot_has(store: tuple[StoreOfNone, Path]) -> None:
    made, path = store
    done = invoke("bot", "retry", path, "8")
    assert (done.code, done.err) == (2, "Error: no event with this sequence is parked\n")
    assert invoke("bot", "retry", path, "7").out == "1 taken up again.\n"
    assert [*made.parked_events] == []
    assert [one.event.id for one in made.events.values()] == ["message/m1"]
    assert invoke("bot", "retry", path, "--all").out == "0 taken up again.\n"


@pytest.mark.parametrize("arguments", [[], ["7", "--all"]])
def test_retry_names_one_event_or_all(store: tuple[StoreOfNone, Path], arguments: list[str]) -> None:
    done = invoke("bot", "retry", store[1], *arguments)
    assert done.code == 2
    assert "SEQUENCE" in done.err


def test_retry_says_what_to_do_while_a_bot_has_the_store(
    store: tuple[StoreOfNone, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store[1]

    @asynccontextmanager
    async def in_use(_: object) -> AsyncIterator[StoreOfNone]:
        if path.exists():
            raise JournalInUseError("it is in use")
        yield StoreOfNone()

    monkeypatch.setattr(stores, "open_to_change", in_use)
    done = invoke("bot", "retry", path, "7")
    assert done.code == 2
    assert "--control" in done.err


def test_retry_changes_nothing_in_a_database_that_a_bot_has(store: tuple[StoreOfNone, Path]) -> None:
    made, path = store
    made.is_free = False
    done = invoke("bot", "retry", path, "7")
    assert done.code == 2
    assert "--control" in done.err
    assert [*made.parked_events] == [7]
