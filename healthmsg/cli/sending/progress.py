"""How far a run is, while it goes."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from healthmsg.cli.rate import Rate

HeldUpBy = Callable[[], Exception | None]


class _Remaining(TimeRemainingColumn):
    """The time left, or what holds the whole run up just now."""

    def __init__(self, held_up_by: HeldUpBy) -> None:
        super().__init__(elapsed_when_finished=True)
        self._held_up_by = held_up_by

    def render(self, task: Task) -> Text:
        """Show what is of interest."""
        error = self._held_up_by()
        if error is None:
            return super().render(task)
        return Text(f"waits: {type(error).__name__}", style="yellow", no_wrap=True, overflow="ellipsis")


def make_progress(console: Console, held_up_by: HeldUpBy) -> Progress:
    """Make a bar with numbers. Nothing is shown where nobody watches: the end is told anyway."""
    return Progress(
        BarColumn(bar_width=6),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("{task.description}"),
        _Remaining(held_up_by),
        console=console,
        disable=not console.is_terminal,
    )
