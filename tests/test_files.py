import os
import signal
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from healthmsg.errors import InvalidFileError
from healthmsg.files import UploadFile, check_files, prepare, safe_name, target_path
from healthmsg.pipeline.exchange import FilePart

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


def read(part: FilePart) -> bytes:
    with part.open() as opened:
        return opened.read()


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


def test_each_try_gets_the_file_anew(scan: Path) -> None:
    for part in (only(scan), only(UploadFile(b"picture", name="x"))):
        with part.open() as first, part.open() as second:
            assert first is not second
            assert first.read() == second.read() == b"picture"
        assert read(part) == b"picture"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.PDF", "application/pdf"),
        ("a.jpg", "image/jpeg"),
        ("a.txt", "text/plain"),
        ("a", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        (".png", "application/octet-stream"),
    ],
)
def test_the_type_is_what_the_extension_stands_for(name: str, content_type: str) -> None:
    assert only(UploadFile(b"x", name=name)).content_type == content_type


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
        ("file 5", "it must be a path, or bytes in an UploadFile"),
        ("file 6", "it is empty"),
        ("leeg.txt", "it is empty"),
        ("file 8", "bytes need a name"),
    )


@pytest.mark.parametrize("source", [None, 7, object(), bytearray(b"x"), memoryview(b"x"), ["a.pdf"]])
def test_what_is_neither_path_nor_bytes_is_refused(source: Any) -> None:
    assert problems_of(source) == (("file 1", "it must be a path, or bytes in an UploadFile"),)
    assert problems_of(UploadFile(source, name="a.pdf")) == (
        ("a.pdf", "it must be a path, or bytes in an UploadFile"),
    )


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
def test_a_single_file_is_not_a_sequence_of_files(files: object) -> None:
    with pytest.raises(InvalidFileError):
        check_files(files)


@pytest.mark.parametrize(
    ("suggested", "safe"),
    [
        ("uitslag.pdf", "uitslag.pdf"),
        ("uitslag é 😀.pdf", "uitslag é 😀.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("C:\\x.pdf", "x.pdf"),
        ("C:x.pdf", "C_x.pdf"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("LPT1.tar.gz", "_LPT1.tar.gz"),
        ("aux", "_aux"),
        ("console", "console"),
        (".bashrc", "bashrc"),
        ("...hidden", "hidden"),
        (". .x", "x"),
        ("a.pdf. .", "a.pdf"),
        ("a\x00b", "ab"),
        ("a\r\nb\x85c", "abc"),
        (".\x00.", "attachment"),
        ('a<b>:"|?*.pdf', "a_b______.pdf"),
        ("", "attachment"),
        (None, "attachment"),
        (".", "attachment"),
        ("..", "attachment"),
        ("/", "attachment"),
        (" ", "attachment"),
    ],
)
def test_a_suggested_name_is_made_harmless(suggested: str | None, safe: str) -> None:
    assert safe_name(suggested) == safe


def assert_harmless(name: str) -> None:
    assert name not in {"", ".", ".."}
    assert not set('/\\<>:"|?*') & set(name)
    assert not CONTROL & set(name)
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= 255


@given(names)
@example("aaa." + "b" * 199)
@example("aaa " + "b" * 199)
@example("\u00e9" * 300)
@example("\U0001f600" * 100 + ".pdf")
@example("x" * 300 + "CON")
@example("a" * 50 + "con." + "b" * 196)
def test_no_suggested_name_does_harm(suggested: str) -> None:
    assert_harmless(safe_name(suggested))


@given(st.text(st.sampled_from(".\u00e9 a\U0001f600"), min_size=150, max_size=400))
def test_no_long_name_does_harm(suggested: str) -> None:
    assert_harmless(safe_name(suggested))


@given(names)
def test_a_harmless_name_stays_as_it_is(suggested: str) -> None:
    once = safe_name(suggested)

    assert safe_name(once) == once


@pytest.mark.parametrize(
    "suggested", ["x" * 300 + ".pdf", "\u00e9" * 300 + ".pdf", "\U0001f600" * 300 + ".pdf"]
)
def test_a_name_that_is_too_long_keeps_its_extension_and_can_be_written(
    tmp_path: Path, suggested: str
) -> None:
    target = target_path(tmp_path, suggested)

    target.write_bytes(b"x")

    assert target.suffix == ".pdf"
    assert unicodedata.normalize("NFC", target.name[0]) == suggested[0]


def test_a_download_is_written_to_the_path_or_within_the_folder(tmp_path: Path) -> None:
    assert target_path(tmp_path, "../x.pdf") == tmp_path / "x.pdf"
    assert target_path(tmp_path / "own.pdf", "../x.pdf") == tmp_path / "own.pdf"
    assert target_path(str(tmp_path), None) == tmp_path / "attachment"
