import asyncio
import io
import logging
import mimetypes
import os
import signal
import socket
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.errors import InvalidFileError
from healthmsg.files import FileToUpload, UploadFile, file_parts, prepare
from healthmsg.files import sources as module
from healthmsg.pipeline.request import FilePart
from healthmsg.transfer import Meter
from healthmsg.validation import check_files

KINDS = "it must be a path or an open binary file, or bytes or an async iterable in an UploadFile"
CONTROL = frozenset(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
names = st.text() | st.text(st.sampled_from("./\\ a:*\x00\u00e9\U0001f600CONconNUL1"))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.png"
    path.write_bytes(b"picture")
    return path


def only(file: Any) -> FilePart:
    (part,) = prepare([file], field_name="files")
    return part


def problems_of(*files: Any) -> tuple[tuple[str, str], ...]:
    with pytest.raises(InvalidFileError) as caught:
        prepare(files, field_name="files")
    return caught.value.problems


async def read(part: FilePart) -> bytes:
    content = b"".join([chunk async for chunk in part.source.chunks()])
    await part.source.release()
    return content


def sending(*files: FileToUpload, meter: Meter | None = None) -> Any:
    return file_parts(files, field_name="files", meter=meter or Meter(None))


@contextmanager
def at_most_a_second() -> Iterator[None]:
    def too_long(*_: object) -> NoReturn:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_path_brings_its_own_name_type_and_size(scan: Path) -> None:
    part = only(scan)

    assert (part.name, part.file_name, part.content_type, part.size) == ("files", "scan.png", "image/png", 7)
    assert only(str(scan)).file_name == "scan.png"


def test_bytes_are_called_what_one_calls_them() -> None:
    part = only(UploadFile(b"text", name="uitslag.pdf"))

    assert (part.file_name, part.content_type, part.size) == ("uitslag.pdf", "application/pdf", 4)


def test_name_and_type_can_be_given(scan: Path) -> None:
    part = only(UploadFile(scan, name="foto.bin", content_type="image/x-own"))

    assert (part.file_name, part.content_type) == ("foto.bin", "image/x-own")


def test_parts_come_in_the_order_of_the_files_under_the_fields_name(scan: Path) -> None:
    parts = prepare([UploadFile(b"x", name="a"), scan, UploadFile(b"y", name="b")], field_name="avatar")

    assert [part.file_name for part in parts] == ["a", "scan.png", "b"]
    assert {part.name for part in parts} == {"avatar"}


def test_no_files_are_no_parts() -> None:
    assert prepare([], field_name="files") == ()


async def test_each_try_gets_the_file_from_its_start(scan: Path) -> None:
    with scan.open("rb") as opened:
        for part in (only(scan), only(UploadFile(b"picture", name="x")), only(opened)):
            assert await read(part) == await read(part) == b"picture"
            assert not part.source.is_spent


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.PDF", "application/pdf"),
        ("a.jpg", "image/jpeg"),
        ("a.txt", "text/plain"),
        ("a", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        (".png", "application/octet-stream"),
        ("pdf", "application/octet-stream"),
        ("a.b/pdf", "application/octet-stream"),
        ("a#b.pdf", "application/pdf"),
        ("a?.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.pdf?.unheard-of", "application/octet-stream"),
        ("a.pdf#x", "application/octet-stream"),
        ("a.pdf.", "application/octet-stream"),
        ("uitslag.dcm", "application/dicom"),
        ("a.webp", "image/webp"),
        ("a.heic", "image/heic"),
    ],
)
def test_the_type_is_what_the_extension_stands_for(name: str, content_type: str) -> None:
    assert only(UploadFile(b"x", name=name)).content_type == content_type


def test_the_type_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> NoReturn:
        pytest.fail("it asked the machine")

    monkeypatch.setattr(mimetypes, "guess_type", ask)

    assert only(UploadFile(b"x", name="a.pdf")).content_type == "application/pdf"


@pytest.mark.parametrize("name", ["report.pdf.gz", "notes.txt.bz2", "backup.tar.xz"])
def test_a_compressed_file_does_not_pass_for_what_is_in_it(name: str) -> None:
    inner = {"application/pdf", "text/plain", "application/x-tar"}

    assert only(UploadFile(b"x", name=name)).content_type not in inner


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\An\\scan.png", "scan.png"),
        ("..\\..\\x/y.pdf", "y.pdf"),
        ("a\r\nb\x00c\x7f\x85.pdf", "abc.pdf"),
        ("  a.pdf \n", "a.pdf"),
        ("uitslag é 😀.pdf", "uitslag é 😀.pdf"),
        ('a"b.pdf', 'a"b.pdf'),
    ],
)
def test_a_name_loses_its_path_and_control_characters(name: str, sent: str) -> None:
    assert only(UploadFile(b"x", name=name)).file_name == sent


@given(names)
def test_no_name_that_is_sent_has_a_path_or_control_characters(name: str) -> None:
    try:
        sent = only(UploadFile(b"x", name=name)).file_name
    except InvalidFileError:
        return

    assert sent not in {"", ".", ".."}
    assert not CONTROL & set(sent)
    assert not set("/\\") & set(sent)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/", "\x00", "../..", "\udcff.pdf", None])
def test_bytes_without_a_usable_name_are_refused(name: str | None) -> None:
    ((_, reason),) = problems_of(UploadFile(b"x", name=name))

    assert "name" in reason or "surrogates" in reason


def test_all_bad_files_are_named_at_once(tmp_path: Path, scan: Path) -> None:
    empty = tmp_path / "empty.pdf"
    empty.touch()
    missing = tmp_path / "missing.pdf"
    files = [scan, missing, empty, tmp_path, None, UploadFile(b""), UploadFile(b"", name="leeg.txt"), b"x"]

    assert problems_of(*files) == (
        (str(missing), "No such file or directory"),
        (str(empty), "it is empty"),
        (str(tmp_path), "it is a folder"),
        ("file 5", KINDS),
        ("file 6", "it is empty"),
        ("leeg.txt", "it is empty"),
        ("file 8", "it needs a name"),
    )


@pytest.mark.parametrize("source", [None, 7, object(), bytearray(b"x"), memoryview(b"x"), ["a.pdf"]])
def test_what_is_neither_path_nor_bytes_is_refused(source: Any) -> None:
    assert problems_of(source) == (("file 1", KINDS),)
    assert problems_of(UploadFile(source, name="a.pdf")) == (("a.pdf", KINDS),)


@pytest.mark.parametrize("option", [{"name": 7}, {"name": b"a.pdf"}, {"content_type": 7}])
def test_a_name_or_type_that_is_not_text_is_refused(scan: Path, option: dict[str, Any]) -> None:
    ((name, _),) = problems_of(UploadFile(scan, **option))

    assert name == str(scan)


def test_a_problem_is_named_by_text_even_when_the_name_is_none() -> None:
    ((name, _),) = problems_of(UploadFile(b"x", name=7))  # type: ignore[arg-type]

    assert name == "file 1"


@pytest.mark.parametrize("content_type", ["text/plain\r\nX-Evil: 1", "text/plain\n", "a\x00b"])
def test_a_type_cannot_add_a_header(scan: Path, content_type: str) -> None:
    ((_, reason),) = problems_of(UploadFile(scan, content_type=content_type))

    assert "control characters" in reason


@pytest.mark.parametrize("name", ["a\x00b", "x" * 300, "scan.png/inside"])
def test_a_path_that_cannot_be_opened_is_a_problem_like_any_other(scan: Path, name: str) -> None:
    ((_, reason),) = problems_of(scan.parent / name)

    assert reason


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_problem(scan: Path) -> None:
    scan.chmod(0)

    assert problems_of(scan) == ((str(scan), "Permission denied"),)


def test_a_file_that_may_not_be_opened_is_a_problem(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)

    assert problems_of(scan) == ((str(scan), "Permission denied"),)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with at_most_a_second():
        ((name, _),) = problems_of(pipe)

    assert name == str(pipe)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here")
def test_a_socket_and_a_device_are_no_regular_files(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))

        assert [reason for _, reason in problems_of(path, "/dev/null")] == ["it is not a regular file"] * 2


def test_an_open_file_is_sent_from_where_it_stands_under_its_own_name(scan: Path) -> None:
    with scan.open("rb") as opened:
        opened.read(3)
        part = only(opened)

        assert (part.file_name, part.content_type, part.size) == ("scan.png", "image/png", 4)
        assert opened.tell() == 3


async def test_an_open_file_is_not_closed_and_each_try_begins_where_it_stood(scan: Path) -> None:
    with scan.open("rb") as opened:
        opened.read(3)
        part = only(opened)

        assert await read(part) == await read(part) == b"ture"
        assert not opened.closed


async def test_whatever_reads_like_an_open_file_is_one(tmp_path: Path, scan: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("map/brief.txt", "tekst")
    with (
        zipfile.ZipFile(archive) as zipped,
        zipped.open("map/brief.txt") as inner,
        tempfile.SpooledTemporaryFile() as spooled,
        tempfile.NamedTemporaryFile(suffix=".pdf") as named,
        scan.open("rb", buffering=0) as raw,
    ):
        for file in (spooled, named):
            file.write(b"tekst")
            file.seek(0)
        parts = [only(file) for file in (inner, named, raw, UploadFile(spooled, "s"))]

        assert [part.file_name for part in parts] == ["brief.txt", Path(named.name).name, "scan.png", "s"]
        assert [part.size for part in parts] == [5, 5, 7, 5]
        assert [await read(part) for part in parts] == [b"tekst", b"tekst", b"picture", b"tekst"]


async def test_a_pipe_has_no_known_size_and_is_read_once() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb") as other:  # noqa: ASYNC230, PTH123 - they are no paths
        other.write(b"through")
        other.close()
        part = only(UploadFile(pipe, "pipe.txt"))

        assert part.size is None
        assert [part.source.is_spent, await read(part), part.source.is_spent] == [False, b"through", True]
        with pytest.raises(OSError, match="only once"):
            await read(part)


def test_an_open_file_that_has_no_name_needs_one(scan: Path) -> None:
    standard_input = io.BytesIO(b"x")
    standard_input.name = "<stdin>"
    with io.BytesIO(b"x") as nameless, os.fdopen(os.open(scan, os.O_RDONLY), "rb") as numbered:
        assert problems_of(nameless, numbered, standard_input) == (
            ("file 1", "it needs a name"),
            ("file 2", "it needs a name"),
            ("file 3", "it needs a name"),
        )
        assert only(UploadFile(nameless, "a.txt")).file_name == "a.txt"


def test_an_open_file_that_gives_no_bytes_is_refused(scan: Path) -> None:
    with (
        scan.open() as text,
        scan.open("ab") as write_only,
        scan.open("rb") as at_end,
        scan.open("rb") as shut,
    ):
        at_end.read()
        shut.close()
        files: list[Any] = [text, write_only, at_end, shut, UploadFile(io.StringIO("x"), "a")]  # type: ignore[arg-type]

        assert [reason for _, reason in problems_of(*files)] == [
            "it yields str where bytes are needed: open it in mode 'rb'",
            "it cannot be read",
            "it has nothing left to read",
            "read of closed file",
            "it yields str where bytes are needed: open it in mode 'rb'",
        ]


class Pieces:
    """An async iterable that notes what becomes of it."""

    def __init__(self, *pieces: Any) -> None:
        self.left = list(pieces)
        self.closed = 0

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> Any:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def aclose(self) -> None:
        self.closed += 1


async def test_an_async_iterable_has_the_size_one_says() -> None:
    async def generated() -> AsyncIterator[bytes]:
        yield b"12"
        yield b""
        yield b"345"

    part, known = only(UploadFile(generated(), "a")), only(UploadFile(Pieces(b"1"), "a.pdf", size=5))

    assert (part.size, known.size, known.content_type) == (None, 5, "application/pdf")
    assert await read(part) == b"12345"


async def test_large_pieces_come_in_bearable_ones() -> None:
    part = only(UploadFile(Pieces(bytes(5_000_000), b"x"), "a"))

    sizes = [len(chunk) async for chunk in part.source.chunks()]

    assert sum(sizes) == 5_000_001
    assert max(sizes) < 1_100_000


def test_a_size_that_cannot_be_right_is_refused(scan: Path) -> None:
    sizes: list[Any] = [0, -1, 1.5, True, "5"]
    files = [UploadFile(Pieces(), "a", size=size) for size in sizes]
    with scan.open("rb") as opened:
        wrong = [UploadFile(source, "b", size=8) for source in (scan, opened, b"picture")]
        right = prepare([UploadFile(source, "b", size=7) for source in (scan, opened)], field_name="f")

        assert [reason for _, reason in problems_of(*files, *wrong)] == [
            "it is empty",
            *["its size must be a whole number of bytes"] * 4,
            *["it has another size than the one given"] * 3,
        ]
        assert [part.size for part in right] == [7, 7]


def test_what_can_be_read_once_cannot_be_given_twice(scan: Path) -> None:
    pieces = Pieces(b"x")
    with scan.open("rb") as opened:
        files: list[Any] = [UploadFile(pieces, "a"), opened, UploadFile(pieces, "b"), UploadFile(opened, "c")]

        assert problems_of(*files) == (("b", "it is given twice"), ("c", "it is given twice"))
    prepare([scan, scan, UploadFile(b"x", "a"), UploadFile(b"x", "a")], field_name="files")


async def test_what_is_being_uploaded_cannot_be_uploaded_meanwhile(scan: Path) -> None:
    pieces, free = Pieces(b"x"), Pieces(b"x")
    with scan.open("rb") as opened:
        async with sending(opened, UploadFile(pieces, "a")):
            with pytest.raises(InvalidFileError) as caught:
                async with sending(scan, opened, UploadFile(free, "f"), UploadFile(pieces, "b")):
                    pytest.fail("it was let through")
            assert (free.closed, pieces.closed) == (1, 0)
        async with sending(opened):
            pass

    assert caught.value.problems == tuple((name, "it is being uploaded already") for name in ("file 2", "b"))
    assert pieces.closed == 1
    assert not module.in_use


async def test_an_async_iterable_is_closed_when_a_file_beside_it_is_refused(tmp_path: Path) -> None:
    pieces = Pieces(b"x")

    with pytest.raises(InvalidFileError):
        async with sending(UploadFile(pieces, "a"), tmp_path):
            pytest.fail("it was let through")

    assert pieces.closed == 1
    assert not module.in_use


async def test_what_closing_raises_is_logged_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Pieces):
        async def aclose(self) -> None:
            raise ValueError("canary")

    with caplog.at_level(logging.ERROR):
        async with sending(UploadFile(Stubborn(), "a")):
            pass

    assert [record.getMessage() for record in caplog.records] == [
        "closing what was uploaded raised ValueError"
    ]
    assert "canary" not in caplog.text


async def test_closing_waits_until_nothing_reads_any_more() -> None:
    events: list[str] = []

    async def generated() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("generator closed")

    async def upload() -> None:
        async with sending(UploadFile(generated(), "a")) as (part,):
            inner = asyncio.create_task(read(part))
            await asyncio.sleep(0)
            inner.cancel()
        events.append("let go")

    await upload()

    assert events == ["generator closed", "let go"]


def test_refusing_leaves_no_file_open(scan: Path) -> None:
    opened = Path("/proc/self/fd")
    if not opened.exists():
        pytest.skip("cannot count open files here")
    before = len(list(opened.iterdir()))

    prepare([scan] * 20, field_name="files")
    problems_of(*[scan] * 20, None)

    assert len(list(opened.iterdir())) == before


def test_repr_shows_neither_name_nor_content(scan: Path) -> None:
    file = UploadFile(b"canary", name="canary.pdf")

    assert "canary" not in repr(file)
    assert "canary" not in repr(only(file))
    assert "scan" not in repr(UploadFile(scan))


@pytest.mark.parametrize("files", [["a"], ("a", "b"), []])
def test_a_sequence_of_files_passes(files: Any) -> None:
    assert check_files(files) is files


@pytest.mark.parametrize("files", ["a.pdf", b"a.pdf", Path("a.pdf"), UploadFile("a.pdf"), None, 7, {"a.pdf"}])
def test_a_single_file_is_not_a_sequence_of_files(files: Any) -> None:
    with pytest.raises(InvalidFileError):
        check_files(files)
