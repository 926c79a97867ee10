"""Running the command line, in this process and in one of its own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen
from typer.testing import CliRunner

from healthmsg.cli.app import app
from healthmsg.sandbox import Sandbox


@frozen
class Done:
    """What a command has printed, each on one line, and its exit status."""

    code: int
    out: str
    err: str


def invoke(*arguments: str | Path, env: Mapping[str, str | None] | None = None) -> Done:
    """Run it in this process, where nobody can be asked."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def variables_of(sandbox: Sandbox) -> dict[str, str]:
    return {"HEALTHMSG_API_URL": sandbox.environment.api_url, "HEALTHMSG_TOKEN": sandbox.issue_token()}


Process = asyncio.subprocess.Process


async def begin(
    sandbox: Sandbox, *arguments: str | Path, stdin: int | None = None, token: str | None = None
) -> Process:
    """Run it in a process of its own, against a sandbox."""
    own = {} if token is None else {"HEALTHMSG_TOKEN": token}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "healthmsg.cli", *map(str, arguments)),
        env=os.environ | variables_of(sandbox) | own,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: Process) -> Done:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def run(sandbox: Sandbox, *arguments: str | Path) -> Done:
    return await end(await begin(sandbox, *arguments))
