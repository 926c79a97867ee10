"""How far a run is, while it goes."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from healthmsg.cli.rate import Rate

HeldUpBy = Callable[[], Exception | None]


class _HeldUp(ProgressColumn):
    """What holds the whole run up just now, if anything does."""

    # Text of another length can come at any moment.
    max_refresh = None

    def __init__(self, held_up_by: HeldUpBy) -> None:
        super().__init__()
        self._held_up_by = held_up_by

    def render(self, task: Task) -> Text:  # noqa: ARG002 - the same for all
        error = self._held_up_by()
        return Text("") if error is None else Text(f"waiting: {type(error).__name__}", style="yellow")


def make_progress(console: Console, held_up_by: HeldUpBy) -> Progress:
    """Make a bar with numbers. Nothing is shown where nobody watches: the end is told anyway."""
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        _HeldUp(held_up_by),
        console=console,
        disable=not console.is_terminal,
    )
