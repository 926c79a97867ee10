"""What is shown before sending."""

from io import StringIO

import pytest
from rich.console import Console

from healthmsg.cli.problems import Problem, RefusedError
from healthmsg.cli.recipients.messages import Messages
from healthmsg.cli.sending.options import Job, Options
from healthmsg.cli.sending.preview import refuse_doubtful, show_doubts

DOUBTS = [Problem("voornaam is a word", line, "Null") for line in range(2, 25)]


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("file", "has_values"), [(Screen(), True), (StringIO(), False)])
def test_a_doubtful_value_itself_is_shown_on_a_terminal_alone(file: StringIO, has_values: bool) -> None:
    show_doubts(Console(file=file, force_terminal=True, color_system=None, width=200), DOUBTS)

    first, second, *_, last = file.getvalue().splitlines()
    assert first == "May be a mistake: 23"
    assert second == ("  line 2: voornaam is a word: Null" if has_values else "  line 2: voornaam is a word")
    assert last == "  … and 3 more"


def test_the_advice_stays_however_many_doubts_there_are() -> None:
    job = Job(Options(), Messages([], (), DOUBTS))

    with pytest.raises(RefusedError) as refusal:
        refuse_doubtful(job)

    first, *_, more, advice = refusal.value.text.splitlines()
    assert first == "23 problems"
    assert more == "… and 3 more"
    assert "--accept-doubtful" in advice
    assert "Null" not in refusal.value.text + repr(refusal.value) + repr(DOUBTS)
