"""`healthmsg sandbox`."""

import asyncio

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from healthmsg.sandbox import Sandbox


async def serve(
    console: Console, host: str, port: int, *, auto_approve: bool, redirect_uri: str | None
) -> None:
    """Serve until it is cancelled."""
    sandbox = Sandbox(auto_approve=auto_approve, redirect_uri=redirect_uri)
    await sandbox.start(host, port)
    try:
        console.print(_card(sandbox))
        await asyncio.Event().wait()
    finally:
        await sandbox.stop()
        console.print("The sandbox has stopped; all it knew is gone.")


def _card(sandbox: Sandbox) -> Panel:
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
        ("Access token", f"{sandbox.issue_token()}  (lasts 3 days)"),
    ):
        facts.add_row(name, str(value))
    return Panel(facts, title="healthmsg sandbox", subtitle="Ctrl-C stops it", expand=False)
