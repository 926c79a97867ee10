import asyncio
import contextlib
import linecache
import logging
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from healthmsg import Client, Environment, NotFoundError
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep, Notices
from healthmsg.pipeline.request import Request, Response, Send
from tests.servers import a_request, answering, response, serve

SUNSET = "Sat, 31 Oct 2026 23:59:59 GMT"


def sending(step: Notices, *, sunset: str | None = None, version: str | None = None) -> Send:
    reported = {"sunset": sunset, "api-version": version}

    async def answer(_: Request) -> Response:
        headers = {name: value for name, value in reported.items() if value is not None}
        return evolve(response(), headers=headers)

    return fold([CheckStep(step)], answer)


@contextlib.asynccontextmanager
async def a_client(*headers: str, status: int = 200) -> AsyncIterator[Client]:
    body = b'{"id": "u1"}'
    async with (
        serve(answering(status, body, *headers)) as server,
        Client("t", environment=Environment("here", server.url)) as client,
    ):
        yield client


@contextlib.contextmanager
def deprecations() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True, category=DeprecationWarning) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        yield caught


async def test_the_version_is_as_last_seen() -> None:
    step = Notices()
    seen = [step.api_version]
    for version in ("1.0", None, "", "1.1"):
        await sending(step, version=version)(a_request())
        seen.append(step.api_version)

    assert seen == [None, "1.0", "1.0", "1.0", "1.1"]


@pytest.mark.parametrize("nothing", ["n/a", "N/A", " n/a ", "N/a", "", "  "])
async def test_no_sunset_is_no_warning(nothing: str, caplog: pytest.LogCaptureFixture) -> None:
    await sending(Notices(), sunset=nothing)(a_request())

    assert not caplog.records


async def test_each_call_that_will_disappear_is_warned_of_once_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = Notices()
    send = sending(step, sunset=SUNSET)

    with deprecations() as caught:
        for method in ("GET", "POST", "GET"):
            await send(a_request(method))

    route = "aux/conversations/{id}/messages"
    expected = [
        f"{method} {route} is going to disappear; the service says: {SUNSET}" for method in ("GET", "POST")
    ]
    assert [str(warning.message) for warning in caught] == expected
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("healthmsg", logging.WARNING, text) for text in expected
    ]
    assert [(vars(record)["call"], vars(record)["sunset"]) for record in caplog.records] == [
        (f"{method} {route}", SUNSET) for method in ("GET", "POST")
    ]


async def test_what_the_service_says_is_cut_and_made_printable(caplog: pytest.LogCaptureFixture) -> None:
    said = f"%s {{0}} \x1b[31mred\udcff{'x' * 1000}"

    with deprecations() as caught:
        await sending(Notices(), sunset=said)(a_request())

    text = str(caught[0].message)
    assert text.isprintable()
    assert text.partition("says: ")[2] == f"%s {{0}} ?[31mred?{'x' * 1000}"[:300]
    assert caplog.records[0].getMessage() == text


async def test_the_warning_points_at_the_line_that_made_the_call() -> None:
    async with a_client(f"sunset: {SUNSET}") as client:
        with deprecations() as caught:
            await client.me.get()

    assert caught[0].filename == __file__
    assert linecache.getline(__file__, caught[0].lineno).strip() == "await client.me.get()"


async def test_the_warning_points_at_the_users_line_also_when_the_call_was_tried_again() -> None:
    answers = iter((b"503 X\r\nRetry-After: 0", f"200 OK\r\nsunset: {SUNSET}".encode()))

    async def handler(incoming: Any) -> None:
        for answer in answers:
            await incoming.request()
            incoming.writer.write(b"HTTP/1.1 " + answer + b'\r\nContent-Length: 11\r\n\r\n{"id": "u"}')

    async with (
        serve(handler) as server,
        Client("t", environment=Environment("here", server.url)) as client,
    ):
        with deprecations() as caught:
            await client.me.get()

    assert caught[0].filename == __file__


async def test_an_answer_that_is_an_error_carries_notices_too() -> None:
    async with a_client(f"sunset: {SUNSET}", "api-version: 3", status=404) as client:
        with deprecations() as caught, pytest.raises(NotFoundError):
            await client.me.get()

        assert [str(warning.message).partition(" is ")[0] for warning in caught] == ["GET me"]
        assert client.api_version == "3"


async def test_views_share_what_has_been_warned_of() -> None:
    async with a_client(f"sunset: {SUNSET}") as client:
        with deprecations() as caught:
            await client.with_token("other").me.get()
            await client.me.get()
            await client.with_token("third").me.get()

    assert len(caught) == 1


async def test_a_delivered_message_is_no_failure_where_warnings_are_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_client(f"sunset: {SUNSET}", status=201) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sent = await client.conversations("c1").send("Hallo")

    assert sent.id == "u1"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_delivered_message_is_no_failure_where_showing_a_warning_fails(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("canary")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", fail)
        answer = await sending(Notices(), sunset=SUNSET)(a_request())

    assert answer.status == 200
    assert caplog.records[-1].getMessage() == "showing a warning raised ZeroDivisionError"
    assert "canary" not in caplog.text


SCRIPT = """
import asyncio, sys
from healthmsg import Client, Environment, Outgoing

async def main():
    async with Client("t", environment=Environment("here", sys.argv[1])) as client:
        if sys.argv[2] == "call":
            await client.me.get()
        elif sys.argv[2] == "list":
            async for chat in client.conversations.list():
                break
        else:
            async for result in client.send_many([Outgoing("conversations/c1", "Hallo")]):
                print(result.outcome)

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["call", "list", "bulk"])
async def test_a_script_shows_the_warning_by_default(tmp_path: Path, what: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    body = b'[{"id": "c1"}]' if what == "list" else b'{"id": "u1"}'
    async with serve(answering(200, body, f"sunset: {SUNSET}")) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, server.url, what, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        _, reported = await process.communicate()

    assert process.returncode == 0
    assert "script.py:" in reported.decode()
    assert "DeprecationWarning" in reported.decode()
    assert SUNSET in reported.decode()
