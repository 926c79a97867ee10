"""Running the command line, in this process and in one of its own."""

import asyncio
import os
import shlex
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


def variables_of(sandbox: Sandbox) -> dict[str, str]:
    return {"HEALTHMSG_API_URL": sandbox.environment.api_url, "HEALTHMSG_TOKEN": sandbox.issue_token()}


Process = asyncio.subprocess.Process


async def begin(
    sandbox: Sandbox,
    *arguments: str | Path,
    stdin: int | None = None,
    token: str | None = None,
    env: Mapping[str, str] | None = None,
    redirect: str = "",
) -> Process:
    """Run it in a process of its own, against a sandbox.

    `redirect` is written as in a shell, `>&-` or `| true`; then a signal would reach the shell.
    """
    own = {} if token is None else {"HEALTHMSG_TOKEN": token}
    words = (sys.executable, "-m", "healthmsg.cli", *map(str, arguments))
    if redirect:
        words = ("bash", "-c", f'"$@" {redirect}; exit ${{PIPESTATUS[0]}}', "bash", *words)
    return await asyncio.create_subprocess_exec(
        *words,
        env={**os.environ, **variables_of(sandbox), **own, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: Process) -> Done:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


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


async def run_as_printed(sandbox: Sandbox, command: str, folder: Path, more: str = "--yes") -> Done:
    """Run what was printed, as if it was copied into a shell, in that folder."""
    programs = folder / "bin of tests"
    programs.mkdir(exist_ok=True)
    program = programs / "healthmsg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m healthmsg.cli "$@"\n')
    program.chmod(0o700)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{command} {more}"),
        cwd=folder,
        env=os.environ | variables_of(sandbox) | {"PATH": f"{programs}:{os.environ['PATH']}"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return await end(process)
