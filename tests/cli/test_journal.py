"""`healthmsg journal`."""

import asyncio
import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import pytest

from healthmsg.bulk.journal import Entry, open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.cli.files import JournalLocation
from healthmsg.errors import JournalError, Outcome
from tests.cli.command_line import Done, invoke

BODY = "Beste mevrouw Jansen"
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


async def fill(target: str | Path) -> None:
    """Have one message delivered, one not sent, and one waiting."""
    async with open_journal(target) as journal:
        await journal.enter([Entry(f"k{n}", f"aux/conversations/P{n}", BODY) for n in range(3)])
        delivered, failed = await journal.claim(2)
        for claim in (delivered, failed):
            await journal.begin(claim, NOW, claim.chat)
        await journal.finish(delivered, Outcome.DELIVERED, message_id="m0")
        await journal.finish(failed, Outcome.NOT_SENT, error="NotFoundError: 404")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "recall.db"
    asyncio.run(fill(path))
    return path


def export(journal: Path | str, *options: str) -> list[dict[str, str]]:
    to = Path(str(journal).partition("?")[0]).with_name("out.csv")
    done = invoke("journal", "export", journal, "--to", to, *options)
    assert done.code == 0, done
    assert to.stat().st_mode & 0o777 == 0o600
    with to.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert f"{len(rows)} messages: " in done.out
    to.unlink()
    return rows


def counts(done: Done) -> dict[str, int]:
    assert done.code == 0, done
    return {what: int(number) for number, what in re.findall(r"(\d+)  (\w[\w ]*\w) *\n", done.out)}


# --- show


def test_it_counts_the_messages_by_what_became_of_them(journal: Path) -> None:
    done = invoke("journal", "show", journal)

    shown = counts(done)
    assert (shown["delivered"], shown["not sent"], shown["waiting"], shown["unknown"]) == (1, 1, 1, 0)
    assert re.search(r"noted from 2\d\d\d-\d\d-\d\d \d\d:\d\d to ", done.out)
    for private in (BODY, "P0", "k0"):
        assert private not in done.out


def test_a_program_can_read_the_counts(journal: Path) -> None:
    document = json.loads(invoke("journal", "show", journal, "--json").out)

    assert (document["delivered"], document["not sent"], document["unknown"]) == (1, 1, 0)
    assert (document["superseded"], document["decided"]) == (0, 0)
    assert datetime.fromisoformat(document["oldest"]).tzinfo


def test_it_works_beside_a_run(journal: Path) -> None:
    async def beside() -> Done:
        async with open_journal(journal):
            return await asyncio.to_thread(invoke, "journal", "show", journal)

    assert counts(asyncio.run(beside()))["waiting"] == 1


# --- export


def test_every_message_has_a_row_without_its_text(journal: Path) -> None:
    rows = export(journal)

    assert [(row["position"], row["key"], row["to"], row["outcome"]) for row in rows] == [
        ("0", "k0", "aux/conversations/P0", "delivered"),
        ("1", "k1", "aux/conversations/P1", "not sent"),
        ("2", "k2", "aux/conversations/P2", "waiting"),
    ]
    assert [(row["message_id"], row["error"], row["attempts"]) for row in rows] == [
        ("m0", "", "1"),
        ("", "404", "1"),
        ("", "", "0"),
    ]
    assert [row["started_at"] for row in rows] == [NOW.isoformat(), NOW.isoformat(), ""]
    assert all(datetime.fromisoformat(row["updated_at"]).tzinfo for row in rows)
    assert all(BODY not in row.values() for row in rows)


@pytest.mark.parametrize(
    ("states", "keys"),
    [
        (("failed",), ["k1"]),
        (("not-sent",), ["k1"]),
        (("waiting", "delivered"), ["k0", "k2"]),
        (("unknown",), []),
    ],
)
def test_only_some_states_can_be_asked_for(journal: Path, states: tuple[str, ...], keys: list[str]) -> None:
    options = [word for state in states for word in ("--state", state)]

    assert [row["key"] for row in export(journal, *options)] == keys


def test_texts_come_along_where_they_are_kept_and_wanted(journal: Path, tmp_path: Path) -> None:
    keeping = f"{tmp_path / 'keeping.db'}?keep_bodies=1"
    asyncio.run(fill(keeping))

    assert [row["body"] for row in export(journal, "--bodies")] == ["", BODY, BODY]
    assert [row["body"] for row in export(keeping, "--bodies")] == [BODY] * 3


async def enter(target: str | Path, key: str, body: str) -> None:
    async with open_journal(target) as journal:
        await journal.enter([Entry(key, "aux/conversations/P9", body)])


def test_nothing_of_it_is_a_formula_when_a_spreadsheet_opens_it(tmp_path: Path) -> None:
    journal = tmp_path / "recall.db"
    asyncio.run(enter(journal, "-2+3", "=HYPERLINK(1)"))

    (row,) = export(journal, "--bodies")

    assert (row["key"], row["body"], row["to"]) == ("'-2+3", "'=HYPERLINK(1)", "aux/conversations/P9")


def test_an_export_is_never_written_over_a_file(journal: Path, tmp_path: Path) -> None:
    there = tmp_path / "mine.csv"
    there.write_text("mine")

    done = invoke("journal", "export", journal, "--to", there)

    assert done.code == 2
    assert "exists already" in done.err
    assert there.read_text() == "mine"


# --- purge


def test_what_is_settled_and_old_enough_is_deleted(journal: Path) -> None:
    assert "0 messages are deleted." in invoke("journal", "purge", journal, "--older-than", "1d", "--yes").out

    done = invoke("journal", "purge", journal, "--older-than", "0 days", "--yes")

    assert done.code == 0, done
    assert "2 messages are deleted." in done.out
    assert "keys are forgotten" in done.out
    assert [row["key"] for row in export(journal)] == ["k2"]


@pytest.mark.parametrize("age", ["", "90", "d", "-1d", "1.5d", "90m", "99999d", "d90"])
def test_an_age_that_is_none_is_refused(journal: Path, age: str) -> None:
    done = invoke("journal", "purge", journal, f"--older-than={age}", "--yes")

    assert done.code == 2
    assert "such as 90d or 12w" in done.err
    assert "Nothing was deleted." in done.err


def test_a_purge_is_not_begun_without_a_terminal_to_ask_at(journal: Path) -> None:
    done = invoke("journal", "purge", journal, "--older-than", "0d")

    assert done.code == 2
    assert "--yes" in done.err
    assert len(export(journal)) == 3


def test_a_journal_in_use_is_not_purged(journal: Path) -> None:
    async def beside() -> Done:
        async with open_journal(journal):
            return await asyncio.to_thread(invoke, "journal", "purge", journal, "--older-than", "0d", "--yes")

    done = asyncio.run(beside())

    assert done.code == 1
    assert "Another process sends with this journal" in done.err
    assert "Nothing was deleted." in done.err


def test_what_was_deleted_is_said_also_when_closing_fails(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = SqlJournal.close

    async def broken(opened: SqlJournal) -> None:
        await leave(opened)
        if not opened._is_reading:
            raise JournalError("The journal is gone.")

    monkeypatch.setattr(SqlJournal, "close", broken)
    done = invoke("journal", "purge", journal, "--older-than", "0d", "--yes")

    assert done.code == 1
    assert done.err.splitlines() == ["Error: The journal is gone.", "2 messages are deleted."]


@pytest.mark.parametrize("error", [JournalError("The disk is full."), KeyboardInterrupt()])
def test_nothing_is_said_of_a_purge_that_broke_off(
    journal: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def broken(*_: object) -> int:
        raise error

    monkeypatch.setattr(SqlJournal, "purge", broken)
    done = invoke("journal", "purge", journal, "--older-than", "0d", "--yes")

    assert done.code in {1, 130}
    assert "Nothing was deleted." not in done.err
    assert "Whether messages were deleted is not known" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it has no full disk")
def test_half_an_export_is_not_left(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(path: Path) -> TextIO:
        path.touch()
        return open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123 - a device

    monkeypatch.setattr("healthmsg.cli.journal.create_private", create)
    done = invoke("journal", "export", journal, "--to", tmp_path / "out.csv")

    assert done.code == 1
    assert "could not be written, and was deleted: No space left on device" in done.err
    assert not (tmp_path / "out.csv").exists()


# --- what is no journal


OPTIONS = {"show": (), "export": ("--to", "out.csv"), "purge": ("--older-than", "1d", "--yes")}


@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("content", [None, "no database" * 100])
def test_what_is_no_journal_is_refused_and_nothing_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, content: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("j.db")
    if content is not None:
        path.touch(0o600)
        path.write_text(content)

    done = invoke("journal", command, path, *OPTIONS[command])

    assert done.code == (2 if content is None else 1), done
    assert "journal" in done.err
    assert content is not None or list(tmp_path.iterdir()) == []
    assert not Path("out.csv").exists()


def test_a_state_that_is_none_is_refused(journal: Path, tmp_path: Path) -> None:
    done = invoke("journal", "export", journal, "--to", tmp_path / "out.csv", "--state", "lost")

    assert done.code == 2
    assert "waiting" in done.err
    assert not (tmp_path / "out.csv").exists()


def test_a_journal_can_be_named_by_a_variable(journal: Path) -> None:
    assert counts(invoke("journal", "show", env={"HEALTHMSG_JOURNAL": str(journal)}))["delivered"] == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql+asyncpg://me:s3cret@host:5433/db", "postgresql+asyncpg://me:***@host:5433/db"),
        ("postgresql://me@/db?password=s3cret&host=/run/pg", "postgresql://me@/db?password=***&host=/run/pg"),
        ("postgresql://me:s3cret@host:port/db", "postgresql://…"),
        ("postgresql://me:s3cret", "postgresql://…"),
        ("postgresql://me:12/s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:/s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:12#s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:1@s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3cret@[::1]:5433/db", "postgresql://me:***@[::1]:5433/db"),
    ],
)
def test_a_database_is_named_without_its_password(url: str, shown: str) -> None:
    place = JournalLocation.parse(url)

    assert place.text == shown
    assert "s3cret" not in repr(place)


def test_a_database_that_cannot_be_reached_is_one_error_without_its_password(unused_tcp_port: int) -> None:
    done = invoke("journal", "show", f"postgresql://me:s3cret@127.0.0.1:{unused_tcp_port}/db")

    assert done.code == 1
    assert done.err.startswith("Error: ")
    assert "s3cret" not in done.err


async def test_postgresql_is_shown_and_exported(database: str, tmp_path: Path) -> None:
    await fill(database)

    shown = await asyncio.to_thread(invoke, "journal", "show", database)
    exported = await asyncio.to_thread(invoke, "journal", "export", database, "--to", tmp_path / "out.csv")

    assert counts(shown)["delivered"] == 1
    assert "3 messages: " in exported.out
