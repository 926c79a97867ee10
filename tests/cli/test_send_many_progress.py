"""How far a run is, while it goes."""

import io
import re

from rich.console import Console

from healthmsg.cli.sending.progress import make_progress
from healthmsg.cli.sending.tally import Tally
from healthmsg.errors import ConnectError


def shown(held_up_by: Exception | None, *, is_terminal: bool = True) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=is_terminal, color_system=None)
    with make_progress(console, lambda: held_up_by) as progress:
        progress.add_task(str(Tally()), total=20_000, completed=12_345)
        progress.refresh()
    return screen.getvalue()


def test_it_shows_how_many_how_fast_what_became_of_them_and_the_time_left() -> None:
    line = shown(None)

    assert "12345/20000" in line
    assert "/s delivered 0 · not sent 0 · unknown 0 -:--:--" in line


def test_it_shows_what_holds_the_run_up_on_the_same_line() -> None:
    line = shown(ConnectError("GET me", "no host"))

    assert "waits: Conn" in line
    visible = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", line)
    assert max(map(len, re.split(r"[\r\n]", visible))) <= 80


def test_where_nobody_watches_nothing_is_shown() -> None:
    assert shown(None, is_terminal=False) == ""
