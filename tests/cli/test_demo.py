"""`healthmsg demo`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from attrs import evolve, fields
from rich.console import Console

from healthmsg import ConfigurationError, ConnectError, Outgoing
from healthmsg.cli import demo as module
from healthmsg.cli.app import app
from healthmsg.cli.demo import Figures, _Demo, read_recipients, run_demo
from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.remote import RemoteSandbox, sandbox_process
from tests.cli.command_line import RUNNER
from tests.cli.test_figures import CLEAN

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
