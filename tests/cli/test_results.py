"""The file of results."""

import csv
import errno
import os
from pathlib import Path

import pytest

from healthmsg import Outcome, SendResult
from healthmsg.cli.files import escape_formulas
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.recipients.messages import Message, Messages
from healthmsg.cli.sending.options import Job, Options
from healthmsg.cli.sending.results import Results
from healthmsg.errors import NotFoundError

MESSAGES = [Message(line, f"aux/conversations/P{line}", "Beste Zoë") for line in (2, 3, 4)]
JOB = Job(Options(), Messages(MESSAGES, ()))
HEADER = "line;key;to;outcome;message_id;error;attempts"


def delivered(index: int) -> SendResult:
    return SendResult("k", "P1", Outcome.DELIVERED, message_id=f"m{index}", attempts=2, index=index)


def lines_of(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8-sig").split("\r\n")[:-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


@pytest.fixture
def results(path: Path) -> Results:
    results = Results(path, ";")
    results.create()
    return results


class Disk:
    """Stands for `os.write`: takes so many bytes, then it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1 << 20
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(descriptor, bytes(data[: self.free]))
        self.free -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_row_is_on_the_disk_as_soon_as_it_is_known(path: Path, results: Results) -> None:
    results.add(delivered(0), MESSAGES[0])

    assert lines_of(path) == [HEADER, "2;k;aux/conversations/P2;delivered;m0;;2"]


def test_what_only_the_journal_knows_has_no_line(path: Path, results: Results) -> None:
    error = NotFoundError("POST conversations/{id}/messages", 404)
    results.add(SendResult("k", "conversations/c1", Outcome.NOT_SENT, error=error, attempts=1), None)

    assert lines_of(path)[1].startswith(
        ";k;conversations/c1;not sent;;POST conversations/{id}/messages: answered 404 "
    )


def test_what_the_journal_knows_of_a_file_has_its_line(path: Path, results: Results) -> None:
    results.add(
        SendResult("k", "conversations/c1", Outcome.DELIVERED, "m", attempts=1, label="line 17;"), None
    )
    results.add(SendResult("k", "conversations/c1", Outcome.DELIVERED, "m", attempts=1, label="other"), None)

    assert [line.split(";")[0] for line in lines_of(path)[1:]] == ["17", ""]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "'=", "\r", "\uff1d"])
def test_nothing_in_it_is_a_formula_when_a_spreadsheet_opens_it(
    path: Path, results: Results, start: str
) -> None:
    key, text = f"{start}cmd|' /C calc'!A0", f"{start}1+1"
    results.add(SendResult(key, "P1", Outcome.DELIVERED, message_id=text, attempts=1), MESSAGES[0])

    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file, delimiter=";")
    assert (row["key"], row["message_id"]) == (f"'{key}", f"'{text}")
    assert (row["line"], row["to"], row["attempts"]) == ("2", "aux/conversations/P2", "1")


def test_the_ordinary_is_written_as_it_is() -> None:
    row = (5, -5, "P1", "2026-01-01", "a=b", "'t Hart", "", None)

    assert escape_formulas(row) == list(row)


def test_what_the_run_did_not_come_to_is_open(path: Path, results: Results) -> None:
    results.add(delivered(1), MESSAGES[1])
    results.finish(JOB, {1})

    assert [line.split(";")[0::3][:2] for line in lines_of(path)[1:]] == [
        ["3", "delivered"],
        ["2", "open"],
        ["4", "open"],
    ]


def test_it_takes_the_place_of_no_other_file(path: Path) -> None:
    path.write_text("mine")

    with pytest.raises(RefusedError, match="exists already"):
        Results(path).create()

    assert path.read_text() == "mine"


def test_without_a_name_it_is_called_after_the_recipients_and_the_time(tmp_path: Path) -> None:
    path = Results.for_file(tmp_path / "lijst.csv", ",").path

    assert path.parent == tmp_path
    assert path.match("lijst.results-2???????-??????.csv")


def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(
    path: Path, results: Results, disk: Disk
) -> None:
    disk.free = 5
    results.add(delivered(0), MESSAGES[0])
    full = results.problem
    assert full == "No space left on device"
    assert len(path.read_bytes()) == len(HEADER) + 3 + 2 + 5

    disk.free = 1 << 20
    results.add(delivered(1), MESSAGES[1])
    results.finish(JOB, {0, 1, 2})

    assert results.problem is None
    assert not results.lines_without_row()
    assert [line.split(";")[0] for line in lines_of(path)] == ["line", "2", "3"]


def test_a_disk_that_stays_full_loses_no_truth(path: Path, results: Results, disk: Disk) -> None:
    disk.free = 60
    for index in range(2):
        results.add(delivered(index), MESSAGES[index])
    results.finish(JOB, {0, 1})

    assert results.problem == "No space left on device"
    assert results.lines_without_row() == {"delivered": [3], "open": [4]}
    assert lines_of(path)[1].startswith("2;k;")


def test_a_file_that_was_deleted_is_made_again(path: Path, results: Results) -> None:
    results.add(delivered(0), MESSAGES[0])
    path.unlink()
    results.add(delivered(1), MESSAGES[1])
    results.finish(JOB, {0, 1, 2})

    assert [line.split(";")[0] for line in lines_of(path)] == ["line", "2", "3"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_replaced_is_left_and_another_made(path: Path, results: Results) -> None:
    path.unlink()
    path.write_text("mine")
    results.add(delivered(0), MESSAGES[0])
    results.finish(JOB, {0, 1, 2})

    assert path.read_text() == "mine"
    assert results.path.name == "results-2.csv"
    assert [line.split(";")[0] for line in lines_of(results.path)] == ["line", "2"]


def test_a_folder_that_is_gone_is_said(path: Path, results: Results) -> None:
    results.add(delivered(0), MESSAGES[0])
    path.unlink()
    path.parent.rmdir()
    results.finish(JOB, {0, 1, 2})

    assert results.problem is not None
    assert "No such file or directory" in results.problem
    assert results.lines_without_row() == {"delivered": [2]}
