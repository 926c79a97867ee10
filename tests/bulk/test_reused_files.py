"""One path for the letters of many patients: each gets their own letter, or none."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import evolve

from healthmsg import Client, Outcome, Outgoing, RateLimit, Retries, Upload, UploadFile
from healthmsg.bulk.entries import check_message
from healthmsg.bulk.intake import snapshot_files
from healthmsg.bulk.journal import fingerprint_of, open_journal
from healthmsg.errors import InvalidFileError, JournalMismatchError, UploadFileError
from healthmsg.files import FileSnapshots
from healthmsg.files import sources as values
from healthmsg.sandbox import Sandbox

PATIENTS = 60
Run = Literal["plain", "journal", "uploads"]
RUNS: list[Run] = ["plain", "journal", "uploads"]
Render = Callable[[Path, bytes], None]


def in_place(path: Path, letter: bytes) -> None:
    path.write_bytes(letter)


def in_place_with_the_same_time(path: Path, letter: bytes) -> None:
    path.write_bytes(letter)
    os.utime(path, ns=(10**18, 10**18))


def renamed(path: Path, letter: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(letter)
    other.replace(path)


def renamed_with_the_same_time(path: Path, letter: bytes) -> None:
    renamed(path, letter)
    os.utime(path, ns=(10**18, 10**18))


def deleted_and_made(path: Path, letter: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(letter)


def any_of_these(path: Path, letter: bytes) -> None:
    """Each in its turn, so that they follow one another in every order."""
    RENDERINGS[hash(letter) % (len(RENDERINGS) - 1)](path, letter)


RENDERINGS: list[Render] = [
    in_place,
    in_place_with_the_same_time,
    renamed,
    renamed_with_the_same_time,
    deleted_and_made,
    any_of_these,
]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with Client(
        sandbox.issue_token(),
        environment=sandbox.environment,
        rate_limit=RateLimit(calls=1000, per=1),
        retries=Retries.none(),
    ) as client:
        yield client


def letter_for(chat: str, size: int = 20_000) -> bytes:
    return f"%PDF brief voor {chat} ".encode().ljust(size, b".")


def file_as(path: Path, kind: type) -> Any:
    return UploadFile(path) if kind is UploadFile else kind(path)


async def results_of(client: Client, run: Run, messages: Any, journal: Path) -> list[tuple[str, Outcome]]:
    if run == "uploads":
        return [(str(one.to), one.outcome) async for one in client.upload_many(messages)]
    options: Any = {"journal": journal} if run == "journal" else {}
    return [(str(one.to), one.outcome) async for one in client.send_many(messages, **options)]


def tally(sandbox: Sandbox, results: list[tuple[str, Outcome]], letter: Callable[[str], bytes]) -> list[int]:
    """Count those delivered with their own letter, those refused, and those where neither is true."""
    right = refused = 0
    for chat, outcome in results:
        held = [sandbox.file_content(file.id) for one in sandbox.messages(chat) for file in one.attachments]
        right += outcome is Outcome.DELIVERED and held == [letter(chat)]
        refused += outcome is Outcome.NOT_SENT and not held
    return [right, refused, len(results) - right - refused]


def whole_seconds(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_ctime_ns // 10**9 * 10**9


def none_that_no_program_can_set(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, 0


def as_on_a_share_without_numbers(found: os.stat_result) -> tuple[int, int]:
    return 0, found.st_ctime_ns // 10**7 * 10**7


STAMPS = [whole_seconds, none_that_no_program_can_set, as_on_a_share_without_numbers]


def stamp(monkeypatch: pytest.MonkeyPatch, stamps: Callable[[os.stat_result], tuple[int, int]]) -> None:
    """Have file systems stamp files more coarsely than this machine's does."""

    def of(descriptor: int) -> values.FileState:
        found = os.fstat(descriptor)
        inode, changed = stamps(found)
        modified = found.st_mtime_ns // 10**9 * 10**9
        return values.FileState(found.st_dev, inode, found.st_size, modified, changed)

    monkeypatch.setattr(values.FileState, "of", of)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    "kind", [str, *(pytest.param(one, marks=pytest.mark.thorough) for one in (Path, UploadFile))]
)
@pytest.mark.parametrize("render", RENDERINGS)
async def test_no_one_gets_the_letter_of_another(  # noqa: PLR0917 - fixtures
    client: Client, sandbox: Sandbox, tmp_path: Path, render: Render, kind: type, run: Run
) -> None:
    counted = await letters_of_all(client, sandbox, tmp_path, render, run, kind=kind)

    assert counted == ([1, PATIENTS - 1, 0] if run == "journal" else [PATIENTS, 0, 0])


async def letters_of_all(
    client: Client,
    sandbox: Sandbox,
    folder: Path,
    render: Render,
    run: Run,
    *,
    kind: type = Path,
    size: int = 20_000,
    patients: int = PATIENTS,
) -> list[int]:
    path = folder / "brief.pdf"
    chats = [f"conversations/{sandbox.add_conversation()}" for _ in range(patients)]

    def letters() -> Iterator[Any]:
        for chat in chats:
            render(path, letter_for(chat, size))
            file = file_as(path, kind)
            yield Upload(chat, file) if run == "uploads" else Outgoing(chat, "", [file])

    results = await results_of(client, run, letters(), folder / "journal.db")
    assert len(results) == patients
    return tally(sandbox, results, lambda chat: letter_for(chat, size))


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("render", RENDERINGS)
async def test_a_large_letter_is_refused_rather_than_sent_to_another(
    client: Client, sandbox: Sandbox, tmp_path: Path, render: Render, run: Run
) -> None:
    right, _, wrong = await letters_of_all(client, sandbox, tmp_path, render, run, size=4_500_000, patients=8)

    assert right >= 1
    assert not wrong


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("render", [in_place, in_place_with_the_same_time, deleted_and_made])
@pytest.mark.parametrize("stamps", STAMPS)
@pytest.mark.parametrize("size", [20_000, 4_500_000])
async def test_nothing_depends_on_how_finely_files_are_stamped(  # noqa: PLR0917 - fixtures
    client: Client,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    render: Render,
    run: Run,
    stamps: Any,
    size: int,
) -> None:
    stamp(monkeypatch, stamps)

    right, _, wrong = await letters_of_all(client, sandbox, tmp_path, render, run, size=size, patients=6)

    assert right >= 1
    assert not wrong


@pytest.mark.parametrize("run", ["plain", "uploads"])
@pytest.mark.parametrize("kind", ["buffer", "open file"])
async def test_an_open_file_can_be_given_for_many_messages(
    client: Client, sandbox: Sandbox, tmp_path: Path, run: Run, kind: str
) -> None:
    chats = [f"conversations/{sandbox.add_conversation()}" for _ in range(PATIENTS)]
    path = tmp_path / "brief.pdf"

    def letters() -> Iterator[Any]:
        with BytesIO() if kind == "buffer" else path.open("w+b") as opened:
            for chat in chats:
                opened.seek(0)
                opened.write(letter_for(chat))
                opened.seek(0)
                file = UploadFile(opened, "brief.pdf")
                yield Upload(chat, file) if run == "uploads" else Outgoing(chat, "", [file])

    results = await results_of(client, run, letters(), tmp_path / "journal.db")

    assert tally(sandbox, results, letter_for) == [PATIENTS, 0, 0]


@pytest.mark.parametrize("size", [2000, 3_000_000])
@pytest.mark.parametrize("render", RENDERINGS)
async def test_a_resumed_run_refuses_a_letter_that_was_replaced(
    client: Client, sandbox: Sandbox, tmp_path: Path, render: Render, size: int
) -> None:
    path, journal = tmp_path / "brief.pdf", tmp_path / "journal.db"
    chat = f"conversations/{sandbox.add_conversation()}"
    render(path, letter_for(chat, size))
    async with open_journal(journal) as opened:
        message = Outgoing(chat, "", [path])
        taken = await snapshot_files(message, FileSnapshots(digest_all=True))
        entry = await check_message(message, client._api, taken)
        await opened.enter([evolve(entry, key="k", fingerprint=b"f" * 32)])
    before = path.stat()
    render(path, letter_for("somebody else", size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    (result,) = await client.send_many(journal=journal).all()

    assert result.outcome is Outcome.NOT_SENT
    assert "changed or replaced" in str(result.error)
    assert isinstance(result.error, InvalidFileError if size < 1_000_000 else UploadFileError)
    assert sandbox.messages(chat) == ()

    render(path, letter_for(chat, size))
    (result,) = await client.send_many(journal=journal, retry_failed=True).all()

    assert tally(sandbox, [(chat, result.outcome)], lambda chat: letter_for(chat, size)) == [1, 0, 0]


async def test_a_letter_that_is_rendered_again_is_not_sent_again(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    journal, chat = tmp_path / "journal.db", f"conversations/{sandbox.add_conversation()}"

    async def run(folder: str, letter: bytes) -> tuple[Outcome, Exception | None]:
        path = tmp_path / folder / "brief.pdf"
        path.parent.mkdir()
        path.write_bytes(letter)
        (result,) = await client.send_many([Outgoing(chat, "", [path])], journal=journal).all()
        return result.outcome, result.error

    assert await run("first", b"letter of 08:00") == (Outcome.DELIVERED, None)
    assert await run("the same in another folder", b"letter of 08:00") == (Outcome.DELIVERED, None)
    outcome, error = await run("with another date in it", b"letter of 09:00")

    assert outcome is Outcome.NOT_SENT
    assert isinstance(error, JournalMismatchError)
    assert len(sandbox.messages(chat)) == 1


async def test_what_still_waits_is_sent_from_where_its_file_is_given_now(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    journal, chat = tmp_path / "journal.db", f"conversations/{sandbox.add_conversation()}"
    for folder in ("gone", "here"):
        path = tmp_path / folder / "brief.pdf"
        path.parent.mkdir()
        path.write_bytes(letter_for(chat))
        if folder == "gone":
            message = Outgoing(chat, "", [path], key="k")
            taken = await snapshot_files(message, FileSnapshots(digest_all=True))
            async with open_journal(journal) as opened:
                entry = await check_message(message, client._api, taken)
                said = fingerprint_of(entry.chat, entry.body, entry.files, entry.question, salt=opened.salt)
                await opened.enter([evolve(entry, key="k", fingerprint=said)])
            path.unlink()

    (result,) = await client.send_many([Outgoing(chat, "", [path], key="k")], journal=journal).all()

    assert tally(sandbox, [(chat, result.outcome)], letter_for) == [1, 0, 0]


@pytest.mark.slow
async def test_a_dry_run_sees_each_letter_as_it_was_given(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    path, journal = tmp_path / "brief.pdf", tmp_path / "journal.db"
    chats = [f"conversations/{sandbox.add_conversation()}" for _ in range(PATIENTS)]
    own = [tmp_path / str(number) / "brief.pdf" for number in range(PATIENTS)]
    for chat, file in zip(chats, own, strict=True):
        file.parent.mkdir()
        file.write_bytes(letter_for(chat))

    def letters() -> Iterator[Outgoing]:
        for chat in chats:
            path.write_bytes(letter_for(chat))
            yield Outgoing(chat, "", [path])

    messages = [Outgoing(chat, "", [file]) for chat, file in zip(chats, own, strict=True)]
    await client.send_many(messages, journal=journal).all()

    report = await client.preview_many(letters(), journal=journal).report()

    # All are refused that a run would refuse, since they are not what they were any more.
    assert (report.delivered_before, report.invalid, report.to_send) == (1, PATIENTS - 1, 0)


@pytest.mark.slow
async def test_a_brochure_for_many_is_delivered_to_all(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    brochure = tmp_path / "folder.pdf"
    brochure.write_bytes(bytes(5_000_000))
    chats = [f"conversations/{sandbox.add_conversation()}" for _ in range(12)]
    messages = [Outgoing(chat, "", [brochure]) for chat in chats]

    for journal in (None, tmp_path / "journal.db"):
        results = await client.send_many(messages, journal=journal).all()

        assert {result.outcome for result in results} == {Outcome.DELIVERED}


@pytest.mark.parametrize("run", RUNS)
async def test_a_list_of_files_can_be_used_again(
    client: Client, sandbox: Sandbox, tmp_path: Path, run: Run
) -> None:
    chats = [f"conversations/{sandbox.add_conversation()}" for _ in range(PATIENTS)]
    files: list[Any] = []

    def letters() -> Iterator[Any]:
        for number, chat in enumerate(chats):
            path = tmp_path / f"{number}.pdf"
            path.write_bytes(letter_for(chat))
            files[:] = [path]
            yield Upload(chat, files) if run == "uploads" else Outgoing(chat, "", files)
        files.clear()

    results = await results_of(client, run, letters(), tmp_path / "journal.db")

    assert tally(sandbox, results, letter_for) == [PATIENTS, 0, 0]
