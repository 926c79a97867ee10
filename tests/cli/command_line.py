"""The command line in this process and in one of its own, and the files that it reads and writes."""

import asyncio
import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from attrs import frozen
from typer.testing import CliRunner

from healthmsg.cli.app import app
from healthmsg.sandbox import Sandbox

# Before click 8.2, it mixes what is printed unless it is asked not to.
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
RUNNER = CliRunner(**_APART)


@frozen
class Done:
    """What a command has printed, each on one line, and its exit status."""

    code: int
    out: str
    err: str


def invoke(*arguments: str | Path, env: Mapping[str, str | None] | None = None) -> Done:
    """Run it in this process, where there is no terminal to ask at."""
    result = RUNNER.invoke(app, [str(argument) for argument in arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


ACCOUNT = {"HEALTHMSG_API_URL": "http://127.0.0.1:9/v1", "HEALTHMSG_TOKEN": "t0ken"}
"""That of a service where nothing listens."""


def variables_of(sandbox: Sandbox) -> dict[str, str]:
    return {"HEALTHMSG_API_URL": sandbox.environment.api_url, "HEALTHMSG_TOKEN": sandbox.issue_token()}


Process = asyncio.subprocess.Process


async def begin(
    sandbox: Sandbox,
    *arguments: str | Path,
    stdin: int | None = None,
    env: Mapping[str, str] | None = None,
    redirect: str = "",
) -> Process:
    """Run it in a process of its own, against a sandbox.

    `redirect` is written as in a shell, `>&-` or `| true`; then a signal would reach the shell.
    """
    words = (sys.executable, "-m", "healthmsg.cli", *map(str, arguments))
    if redirect:
        words = ("bash", "-c", f'"$@" {redirect}; exit ${{PIPESTATUS[0]}}', "bash", *words)
    return await asyncio.create_subprocess_exec(
        *words,
        env={**os.environ, **variables_of(sandbox), **(env or {})},
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: Process) -> Done:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Done(process.returncode, (out or b"").decode(), err.decode())


async def run(
    sandbox: Sandbox,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    redirect: str | None = None,
) -> Done:
    """Run it to its end: in a thread of this process, or in a process of its own where it is redirected."""
    if redirect is not None:
        return await end(await begin(sandbox, *arguments, env=env, redirect=redirect))
    variables = {**variables_of(sandbox), **(env or {})}
    return await asyncio.to_thread(invoke, *arguments, env=variables)


def split_as_shell(command: str) -> list[str]:
    """Return the words of a command that was printed, as a shell reads them."""
    words = subprocess.run(  # noqa: S603 - the command is the subject
        ["bash", "-c", f"printf '%s\\0' {command}"],  # noqa: S607 - the user's shell
        capture_output=True,
        check=True,
    ).stdout
    return list(map(os.fsdecode, words.split(b"\0")[:-1]))


def add_recipients(sandbox: Sandbox, path: Path, count: int) -> list[str]:
    """Add a chat for each recipient, write the file of recipients, and return the chats."""
    chats = [f"conversations/{sandbox.add_conversation(aux_id=f'P{n}')}" for n in range(count)]
    path.write_text("aux_id;body\n" + "".join(f"P{n};Hallo {n}\n" for n in range(count)))
    return chats


def read_results(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


def bodies(sandbox: Sandbox, chat: str) -> list[str | None]:
    return [message.body for message in sandbox.messages(chat)]


async def until_sending(sandbox: Sandbox, calls: int = 1) -> None:
    """Wait for the first calls that send, of a process that may take long to start on a busy machine."""
    async with asyncio.timeout(60):
        while sum(call.method == "POST" for call in sandbox.calls) < calls:  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.005)
