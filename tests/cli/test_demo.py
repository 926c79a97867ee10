"""`healthmsg demo`: the whole job, what it counts, and its recipients."""

import io
import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from attrs import evolve, fields
from rich.console import Console

from healthmsg import ConfigurationError, ConnectError, Outgoing, fold_aux_id
from healthmsg.cli import demo as module
from healthmsg.cli.app import app
from healthmsg.cli.demo import Figures, Recipient, _Demo, count_copies, read_recipients, run_demo
from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.remote import RemoteSandbox, sandbox_process
from tests.cli.command_line import RUNNER

CLEAN = Figures(
    sent=150,
    delivered_once=150,
    lost=0,
    duplicated=0,
    rejected=0,
    calls_per_second=29.5,
    max_calls_in_any_second=30,
    uploads=12,
    conversations_read=170,
    messages_read=900,
    downloads_identical=True,
)


def panel(figures: Figures) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(figures.panel(19.26))
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return shown.getvalue()


@pytest.mark.parametrize(
    "wrong", [{"lost": 1}, {"duplicated": 1}, {"rejected": 1}, {"downloads_identical": False}]
)
def test_anything_wrong_is_not_clean_and_is_shown(wrong: dict[str, Any]) -> None:
    assert CLEAN.is_clean
    assert "Every message arrived exactly once." in panel(CLEAN)

    figures = evolve(CLEAN, **wrong)

    assert not figures.is_clean
    assert "Something is wrong" in panel(figures)
    assert "exactly once." not in panel(figures)


def test_the_json_is_one_line_with_every_figure() -> None:
    text = CLEAN.as_json()

    assert "\n" not in text
    assert list(json.loads(text)) == [field.name for field in fields(Figures)]
    assert json.loads(text)["calls_per_second"] == 29.5


def test_the_panel_shows_every_figure() -> None:
    shown = panel(CLEAN)

    for figure in ("150 of 150", "29.5", "30", "12", "170", "900", "19.3 s"):
        assert figure in shown


@pytest.mark.parametrize(
    ("copies", "counted"),
    [
        ({"conversations/c1": {"een": 1}, "conversations/c2": {"twee": 1}}, [1, 1]),
        ({"conversations/c1": {"een": 2}, "conversations/c2": {"twee": 1}}, [2, 1]),
        ({"conversations/c1": {"een": 1}}, [1, 0]),
        ({"conversations/c1": {"een": 1, "twee": 1}}, [1, 0]),
        ({"conversations/c1": {"twee": 1}, "conversations/c2": {"een": 1}}, [0, 0]),
        ({}, [0, 0]),
    ],
)
def test_copies_are_counted_in_the_chat_that_they_were_for(
    copies: dict[str, dict[str, int]], counted: list[int]
) -> None:
    messages = [Outgoing("aux/conversations/p1", "een"), Outgoing("conversations/c2", "twee")]

    assert count_copies(messages, ["c1", "c2"], copies) == counted


def test_there_are_enough_recipients_and_no_two_alike() -> None:
    recipients = read_recipients()

    assert len(recipients) >= 150
    assert len({(one.first_name, one.last_name) for one in recipients}) == len(recipients)
    assert len({one.message for one in recipients}) == len(recipients)
    assert all(one.first_name and one.last_name and one.appointment for one in recipients)


def test_some_recipients_have_an_auxiliary_id_and_none_of_these_is_ambiguous() -> None:
    aux_ids = [one.aux_id for one in read_recipients() if one.aux_id]

    assert 20 <= len(aux_ids) < len(read_recipients())
    assert len(set(aux_ids)) == len(aux_ids)
    assert all(fold_aux_id(aux_id) == aux_id for aux_id in aux_ids)


def test_names_have_diacritics_and_are_composed() -> None:
    names = [f"{one.first_name} {one.last_name}" for one in read_recipients()]

    assert sum(not name.isascii() for name in names) >= 10
    assert all(unicodedata.is_normalized("NFC", name) and name == name.strip() for name in names)


def test_the_repr_of_a_recipient_shows_nothing() -> None:
    assert repr(Recipient("Zoë", "Mulder", "p7", "maandag")) == "Recipient()"


RECIPIENTS = len(read_recipients())


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteSandbox]:
    """Run a sandbox in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "healthmsg.sandbox"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield RemoteSandbox(**json.loads(process.stdout.readline()))
    process.terminate()
    process.communicate()


def demo(*options: str) -> Any:
    return RUNNER.invoke(app, ["demo", *options])


def assert_is_one_clear_line(result: Any, says: str) -> None:
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert says in line
    assert result.stderr.endswith(f"{line}\n")
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


# --- the whole of it, in fake time


@pytest.mark.slow
@pytest.mark.looptime
async def test_the_demo_delivers_everything_once_at_nearly_thirty_a_second(ticking_clock: None) -> None:
    screen = StringIO()
    async with Sandbox(redirect_uri=None) as sandbox:
        remote = RemoteSandbox(sandbox.url, sandbox.client_id, sandbox.client_secret)
        figures = await run_demo(Console(file=screen), remote)

    assert "Every message arrived exactly once." in screen.getvalue()
    assert list(json.loads(figures.as_json())) == [field.name for field in fields(Figures)]
    assert figures.sent == figures.delivered_once == RECIPIENTS
    assert (figures.lost, figures.duplicated, figures.rejected) == (0, 0, 0)
    assert figures.calls_per_second >= 27
    assert figures.max_calls_in_any_second <= 30
    assert figures.uploads == 12
    assert figures.conversations_read >= RECIPIENTS
    assert figures.messages_read >= RECIPIENTS + 12
    assert figures.downloads_identical


async def test_the_demo_has_a_sandbox_in_a_process_of_its_own() -> None:
    async with sandbox_process() as remote:
        (chat,) = await remote.add_conversations([{"first_name": "Zoë", "last_name": "Smit"}])
        report = await remote.report()

    assert chat
    assert report["rejected"] == 0
    with pytest.raises(ConfigurationError, match="no sandbox answers"):
        await remote.report()


# --- what the figures decide


@pytest.mark.parametrize(
    ("wrong", "exit_code"),
    [
        ({}, 0),
        ({"lost": 1}, 1),
        ({"duplicated": 1}, 1),
        ({"rejected": 1}, 1),
        ({"downloads_identical": False}, 1),
    ],
)
def test_the_exit_code_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], exit_code: int
) -> None:
    figures = evolve(CLEAN, **wrong)

    async def run(*_: object) -> Figures:
        return figures

    monkeypatch.setattr(module, "run_demo", run)

    result = demo("--json")

    assert result.exit_code == exit_code
    assert result.stdout == figures.as_json() + "\n"
    assert demo().exit_code == exit_code


@pytest.mark.parametrize(
    ("copies", "rejected", "expected"),
    [
        ({"een": 1}, 0, (1, 0, 0, 0)),
        ({}, 0, (0, 1, 0, 0)),
        ({"een": 2}, 0, (0, 0, 1, 0)),
        ({"een": 1}, 3, (1, 0, 0, 3)),
    ],
)
def test_the_figures_come_from_the_other_side(
    copies: dict[str, int], rejected: int, expected: tuple[int, int, int, int]
) -> None:
    nothing: Any = None
    report: dict[str, Any] = {
        "copies": {"conversations/c1": copies},
        "rejected": rejected,
        "calls_per_second": 29.5,
        "max_calls_in_any_second": 30,
        "uploads": 12,
        "conversations_read": 170,
        "messages_read": 900,
    }
    messages = [Outgoing("conversations/c1", "een")]

    figures = _Demo(nothing, nothing, nothing, nothing)._figures(
        messages, ["c1"], report, report, identical=True
    )

    assert (figures.delivered_once, figures.lost, figures.duplicated, figures.rejected) == expected
    assert figures.is_clean == (expected == (1, 0, 0, 0))


# --- what cannot work


@pytest.mark.slow
def test_a_wrong_secret_is_one_clear_line(remote: RemoteSandbox) -> None:
    result = demo("--sandbox", remote.url, "--client-secret", "wr0ng")

    assert_is_one_clear_line(result, "is the client's secret right")
    assert "wr0ng" not in result.output


def test_a_wrong_client_id_is_one_clear_line(remote: RemoteSandbox) -> None:
    assert_is_one_clear_line(
        demo("--sandbox", f"{remote.url}/", "--client-id", "wr0ng"), "is the client's id right"
    )


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_port_where_nothing_listens_is_one_clear_line(
    unused_tcp_port: int, json_too: tuple[str, ...]
) -> None:
    result = demo("--sandbox", f"http://127.0.0.1:{unused_tcp_port}", *json_too)

    assert_is_one_clear_line(result, f"nothing answers at http://127.0.0.1:{unused_tcp_port}/")
    assert not json_too or result.stdout == ""


@pytest.mark.parametrize("url", ["nonsense", "http://sandbox.example", "ftp://127.0.0.1", "http://[/bold]"])
def test_a_url_that_is_none_is_one_clear_line(url: str) -> None:
    assert_is_one_clear_line(demo("--sandbox", url), "must")


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("no sandbox [/there]"),
        ExceptionGroup("", [ExceptionGroup("", [ConnectError("GET x", "no sandbox [/there]")])]),
    ],
)
def test_what_fails_on_the_way_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def run(*_: object) -> Figures:
        raise error

    monkeypatch.setattr(module, "run_demo", run)

    assert_is_one_clear_line(demo(), "no sandbox [/there]")


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: object) -> Figures:
        raise ExceptionGroup("", [LookupError("a bug")])

    monkeypatch.setattr(module, "run_demo", run)

    assert isinstance(demo().exception, ExceptionGroup)


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: object) -> Figures:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_demo", run)

    result = demo()

    assert result.exit_code == 130
    assert "Traceback" not in result.output
