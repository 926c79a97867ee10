"""The progress bar for the terminal."""

import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from healthmsg import Client, UploadFile
from healthmsg.progress import ProgressBar
from healthmsg.sandbox import Sandbox


@pytest.fixture
def screen() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120)


def shown_on(screen: Console) -> str:
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


@pytest.fixture
def clock() -> "Clock":
    return Clock()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def others(clock: Clock) -> tuple[Progress, StringIO]:
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"))
    return Progress(*columns, console=console, get_time=clock, auto_refresh=False), text


async def test_an_upload_is_shown_to_its_end(client: Client, sandbox: Sandbox, screen: Console) -> None:
    chat = client.conversations(sandbox.add_conversation())

    with ProgressBar("Uploading", console=screen) as progress:
        await chat.upload(UploadFile(bytes(2_000_000), "foto.png"), progress=progress)

    shown = shown_on(screen)
    assert "Uploading" in shown
    assert "2.0/2.0 MB" in shown
    assert "foto" not in shown


def test_a_description_is_shown_as_it_is(screen: Console) -> None:
    with ProgressBar("[bold]a[/]", console=screen) as progress:
        progress(1, 1)

    assert "[bold]a[/]" in shown_on(screen)


def test_bytes_without_a_known_total_have_no_end(screen: Console) -> None:
    with ProgressBar("Uploading", console=screen) as progress:
        progress(5_000, None)

    assert "5.0/? kB" in shown_on(screen)


def test_it_can_be_one_bar_among_others(clock: Clock) -> None:
    bars, text = others(clock)
    with bars:
        other = bars.add_task("Mine", total=3)
        with ProgressBar("Uploading", among=bars) as progress:
            progress(5, 10)
        bars.advance(other)
        bars.refresh()
        assert [task.description for task in bars.tasks] == ["Mine", "Uploading"]
        assert (bars.tasks[1].completed, bars.tasks[1].total) == (5, 10)
        assert bars.live.is_started  # it is the user's to stop

    assert "Uploading" in text.getvalue()


def test_a_total_that_grows_keeps_the_speed_and_is_no_end(clock: Clock) -> None:
    bars, _ = others(clock)
    progress = ProgressBar("Uploading", among=bars)
    (task,) = bars.tasks
    for second in range(1, 6):
        clock.now += 1
        progress(second * 10, (second + 1) * 10)
    assert task.speed == pytest.approx(10)

    progress(60, 60)
    was_finished = task.finished
    progress(60, 80)

    assert (was_finished, task.finished) == (True, False)
    assert task.speed == pytest.approx(10, rel=0.3)


def test_bytes_that_are_taken_back_are_shown(clock: Clock) -> None:
    bars, _ = others(clock)
    progress = ProgressBar("Uploading", among=bars)

    progress(50, 100)
    progress(0, 100)

    assert bars.tasks[0].completed == 0


def test_a_bar_that_is_left_stays_where_it_was(screen: Console) -> None:
    def fail() -> None:
        with ProgressBar("Uploading", console=screen) as progress:
            progress(50, 100)
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert "50/100 bytes" in shown_on(screen)


def test_without_rich_it_names_the_extra() -> None:
    script = """
import sys
sys.modules["rich"] = sys.modules["rich.progress"] = sys.modules["rich.console"] = None
try:
    import healthmsg.progress
except ImportError as error:
    print(error)
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.stdout == "healthmsg.progress needs one more package: pip install 'healthmsg[cli]'\n"
