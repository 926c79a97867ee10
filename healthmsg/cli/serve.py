"""`healthmsg sandbox`."""

import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from healthmsg.cli.ending import say
from healthmsg.cli.shell import quoted
from healthmsg.codec import encode
from healthmsg.sandbox import Sandbox


async def serve(
    console: Console,
    host: str,
    port: int,
    *,
    auto_approve: bool,
    redirect_uri: str | None,
    allowed_hosts: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Serve until it is cancelled."""
    sandbox = Sandbox(auto_approve=auto_approve, redirect_uri=redirect_uri, allowed_hosts=allowed_hosts)
    await sandbox.start(host, port)
    token = sandbox.issue_token()
    try:
        if as_json:
            say(console, _document(sandbox, token))
        else:
            console.print(_card(sandbox, token))
            say(console, _exports(sandbox, token))
        await asyncio.Event().wait()
    finally:
        await sandbox.stop()
        if not as_json:
            console.print("The sandbox has stopped; all it knew is gone.")


def _exports(sandbox: Sandbox, token: str) -> str:
    """Return what another terminal needs, to be copied: outside the frame, which would be copied along."""
    return (
        "To use it from another terminal:\n"
        "unset HEALTHMSG_ENVIRONMENT\n"
        f"export HEALTHMSG_API_URL={quoted(sandbox.environment.api_url)}\n"
        f"export HEALTHMSG_TOKEN={quoted(token)}"
    )


def _document(sandbox: Sandbox, token: str) -> str:
    environment = sandbox.environment
    facts = {
        "api_url": environment.api_url,
        "authorize_url": environment.authorize_url,
        "token_url": environment.token_url,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "redirect_uri": sandbox.redirect_uri,
        "access_token": token,
    }
    return encode(facts).decode()


def _card(sandbox: Sandbox, token: str) -> Panel:
    environment = sandbox.environment
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in (
        ("REST API", environment.api_url),
        ("Documentation", f"{sandbox.url}/docs"),
        ("Authorize", environment.authorize_url),
        ("Token", environment.token_url),
        ("Client id", sandbox.client_id),
        ("Client secret", sandbox.client_secret),
        ("Callback", sandbox.redirect_uri or "any on loopback"),
        ("Access token", f"{token}  (lasts 3 days)"),
    ):
        facts.add_row(name, str(value))
    return Panel(facts, title="healthmsg sandbox", subtitle="Ctrl-C stops it", expand=False)
