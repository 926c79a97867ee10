"""A progress bar for uploads and downloads in the terminal (extra `cli`)."""

from types import TracebackType
from typing import Self

try:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
except ModuleNotFoundError:
    raise ImportError(
        "healthmsg.progress needs one more package: pip install 'healthmsg[cli]'", name="rich"
    ) from None


class ProgressBar:
    """A bar with the bytes done and in all, the speed and the time left. Pass it as `progress=`.

        with ProgressBar("Uploading") as progress:
            await chat.upload("scan.png", progress=progress)

    It is shown on `console`, and without on the standard output. With `among`, a `rich.progress.Progress` of
    yours, it is one bar among its others, with your columns; you start and stop that one, and `description`
    is what its `add_task` takes. Else that is shown as it is. A bar that was left stays where it was.
    """

    def __init__(
        self, description: str, *, console: Console | None = None, among: Progress | None = None
    ) -> None:
        self._is_own = among is None
        self._progress = Progress(*_columns(), console=console) if among is None else among
        shown = escape(description) if among is None else description
        bar = self._progress.add_task(shown, start=False, total=None)
        self._task = next(task for task in self._progress.tasks if task.id == bar)

    def __call__(self, done: int, total: int | None) -> None:
        """Show how far it is, in bytes."""
        self._progress.start_task(self._task.id)
        if total != self._task.total:
            # `update` would restart the measuring of the speed with each upload of many.
            self._task.total, self._task.finished_time = total, None
        self._progress.update(self._task.id, completed=done)

    def __enter__(self) -> Self:
        if self._is_own:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop_task(self._task.id)
        if self._is_own:
            self._progress.stop()


def _columns() -> tuple[TextColumn, BarColumn, DownloadColumn, TransferSpeedColumn, TimeRemainingColumn]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
