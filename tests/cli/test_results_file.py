"""The file of results."""

from pathlib import Path

import pytest

from healthmsg import Outcome, SendResult
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.sending.messages import Message
from healthmsg.cli.sending.results import Results
from healthmsg.errors import NotFoundError

MESSAGE = Message(7, "aux/conversations/P1", "Beste Zoë")


def test_a_row_is_on_the_disk_as_soon_as_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with Results(path, ";") as results:
        results.add(SendResult("k", "P1", Outcome.DELIVERED, message_id="m1", attempts=2, index=0), MESSAGE)
        lines = path.read_text(encoding="utf-8-sig").splitlines()

    assert lines == [
        "line;key;to;outcome;message_id;error;attempts",
        "7;k;aux/conversations/P1;delivered;m1;;2",
    ]


def test_what_only_the_journal_knows_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    error = NotFoundError("POST conversations/{id}/messages", 404)
    with Results(path) as results:
        results.add(SendResult("k", "conversations/c1", Outcome.NOT_SENT, error=error, attempts=1), None)

    row = path.read_text(encoding="utf-8-sig").splitlines()[1]
    assert row.startswith(",k,conversations/c1,not sent,,NotFoundError: ")


def test_it_takes_the_place_of_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("mine")

    with pytest.raises(RefusedError, match="exists already"), Results(path):
        pass

    assert path.read_text() == "mine"


def test_without_a_name_it_is_called_after_the_recipients_and_the_time(tmp_path: Path) -> None:
    path = Results.beside(tmp_path / "lijst.csv", ",").path

    assert path.parent == tmp_path
    assert path.match("lijst.results-2???????-??????.csv")
