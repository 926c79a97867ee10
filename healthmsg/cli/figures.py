"""What the demo counted, from the sandbox's log and store."""

import json
from collections.abc import Mapping, Sequence

from attrs import asdict, frozen
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from healthmsg.bulk import Outgoing


@frozen
class Figures:
    """What arrived, as the sandbox saw it."""

    sent: int
    """Messages that were to be sent."""
    delivered_once: int
    lost: int
    duplicated: int
    rejected: int
    """Calls that the limit refused."""
    calls_per_second: float
    max_calls_in_any_second: int
    uploads: int
    conversations_read: int
    messages_read: int
    downloads_identical: bool

    @property
    def is_clean(self) -> bool:
        """Whether everything arrived exactly once, and nothing was refused."""
        return self.downloads_identical and not (self.lost or self.duplicated or self.rejected)

    def as_json(self) -> str:
        """Give them on one line."""
        return json.dumps(asdict(self))

    def panel(self, seconds: float) -> RenderableType:
        """Give them for a person to read."""
        rows = Table.grid(padding=(0, 2))
        rows.add_column(justify="right", style="bold")
        rows.add_column()
        rows.add_row(f"[green]{self.delivered_once}[/] of {self.sent}", "messages delivered exactly once")
        rows.add_row(_good_if_none(self.lost), "lost")
        rows.add_row(_good_if_none(self.duplicated), "delivered twice")
        rows.add_row(_good_if_none(self.rejected), "calls refused by the limit")
        rows.add_row(f"{self.calls_per_second:.1f}", "calls a second while sending")
        rows.add_row(str(self.max_calls_in_any_second), "calls in the busiest second (30 are allowed)")
        rows.add_row(str(self.uploads), "files uploaded")
        rows.add_row(str(self.conversations_read), "conversations and group chats read back")
        rows.add_row(str(self.messages_read), "messages read back")
        rows.add_row(
            "[green]yes[/]" if self.downloads_identical else "[red]no[/]", "downloaded files identical"
        )
        verdict = "[bold green]Every message arrived exactly once.[/]"
        if not self.is_clean:
            verdict = "[bold red]Something is wrong: see above.[/]"
        return Panel(
            Group(rows, "", verdict),
            title=f"Counted by the sandbox, {seconds:.1f} s in all",
            border_style="green" if self.is_clean else "red",
            expand=False,
        )


def _good_if_none(count: int) -> str:
    return f"[green]{count}[/]" if count == 0 else f"[red]{count}[/]"


def count_copies(
    messages: Sequence[Outgoing], chats: Sequence[str], copies: Mapping[str, Mapping[str, int]]
) -> list[int]:
    """Count how often the store holds each message, in the chat that it was for."""
    return [
        copies.get(f"conversations/{chat}", {}).get(message.body, 0)
        for message, chat in zip(messages, chats, strict=True)
    ]
