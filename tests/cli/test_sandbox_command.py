"""`healthmsg sandbox`, and the command line as such."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

import healthmsg.cli
from healthmsg.cli.app import app
from tests.cli.command_line import RUNNER

SANDBOX = (sys.executable, "-m", "healthmsg.cli", "sandbox")


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command, and give it with what it prints at its start."""
    process = subprocess.Popen(  # noqa: S603 - our own
        [*SANDBOX, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        shown = ""
        while "export HEALTHMSG_TOKEN=" not in shown and "}" not in shown:  # the last line
            line = process.stdout.readline()
            assert line, "it ended"
            shown += line
        yield process, shown
    finally:
        process.kill()
        process.communicate()


def first_line(api_url: str, host: str) -> bytes:
    """Call it under a name, and return the answer's first line."""
    with socket.create_connection(("127.0.0.1", urlsplit(api_url).port or 0), 5) as connection:
        connection.sendall(f"GET /v1/me HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return connection.makefile("rb").readline()


@pytest.mark.slow
def test_it_says_where_it_is_and_stops_when_interrupted() -> None:
    with running() as (process, shown):
        port = re.search(r"http://127\.0\.0\.1:(\d+)/v1", shown)
        assert port
        with socket.create_connection(("127.0.0.1", int(port[1])), 5):
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert f"http://127.0.0.1:{port[1]}/oauth/authorize" in shown
    assert f"http://127.0.0.1:{port[1]}/docs " in shown
    assert f"http://127.0.0.1:{port[1]}/sandbox/ " in shown
    assert "healthmsg-sandbox" in shown
    assert "healthmsg-sandbox-secret" in shown
    assert "any on loopback" in shown
    # What another terminal needs, to be copied as it stands.
    token = re.search(r"Access token +(\S+)", shown)
    assert token
    assert shown.splitlines()[-3:] == [
        "unset HEALTHMSG_ENVIRONMENT",
        f"export HEALTHMSG_API_URL=http://127.0.0.1:{port[1]}/v1",
        f"export HEALTHMSG_TOKEN={token[1]}",
    ]
    assert process.returncode == 0
    assert "has stopped" in out
    assert err == ""


@pytest.mark.slow
def test_a_program_can_read_what_it_says_and_call_it_by_a_name_that_is_allowed() -> None:
    with running("--json", "--allow-host", "sandbox", "--allow-host", "192.0.2.7") as (process, shown):
        facts = json.loads(shown)
        answered = [first_line(facts["api_url"], host) for host in ("sandbox", "192.0.2.7", "other")]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)

    assert [b" 421 " in line for line in answered] == [False, False, True]
    assert set(facts) >= {"api_url", "access_token", "client_id", "client_secret", "token_url"}
    assert out == ""


@pytest.mark.slow
def test_a_registered_callback_is_shown() -> None:
    with running("--redirect-uri", "http://localhost:9/cb") as (_, shown):
        assert "http://localhost:9/cb" in shown


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.7", "[/bold]"])
def test_where_it_cannot_listen_is_one_clear_line(host: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])

        result = RUNNER.invoke(app, ["sandbox", "--host", host, "--port", port])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: Cannot listen on {host}:{port}: ")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_none_is_refused() -> None:
    result = RUNNER.invoke(app, ["sandbox", "--port", "65536"])

    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_without_a_command_there_is_help() -> None:
    result = RUNNER.invoke(app, [])

    assert "sandbox" in result.output
    assert "demo" in result.output


@pytest.mark.parametrize("missing", ["typer", "sqlalchemy"])
def test_without_its_packages_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import healthmsg.cli; healthmsg.cli.main()"

    command = [sys.executable, "-c", code]

    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own

    assert result.returncode == 1
    assert result.stderr == "The command line needs more packages: pip install 'healthmsg[cli]'\n"


def test_importing_the_command_line_loads_none_of_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> Any:
        return None

    monkeypatch.setattr(healthmsg.cli, "find_spec", nothing)

    with pytest.raises(SystemExit, match=r"healthmsg\[cli\]"):
        healthmsg.cli.main()
