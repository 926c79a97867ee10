"""What is said at the end."""

from pathlib import Path

from rich.console import Console

from healthmsg.cli.sending.running import Ending
from healthmsg.models import Outcome


def tell(console: Console, results: Path, ending: Ending, how_to_go_on: str | None) -> None:
    """Say what became of the messages, where it stands for each, and how to go on."""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    tally = ending.tally
    say(f"{tally}")
    for kind, count in tally.failures.most_common():
        say(f"  {count:,}x {kind}")
    say(f"Results: {results}")
    if ending.error is not None:
        said = ending.error.strerror if isinstance(ending.error, OSError) else ending.error
        say(f"The run broke off: {said}")
    if how_to_go_on is None:
        if ending.is_early:
            say("There is no journal to go on with. The results say what was delivered.")
    elif ending.is_early:
        say(f"Go on with: {how_to_go_on}")
    elif tally.outcomes[Outcome.NOT_SENT]:
        say(f"Try again what was not sent: {how_to_go_on} --retry-failed")
