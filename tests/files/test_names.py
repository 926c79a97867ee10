import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from healthmsg.files.targets import safe_name, stored_name
from healthmsg.models import Attachment

CONTROL = frozenset(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
names = st.text() | st.text(
    st.sampled_from("./\\ a:*-~\x00\u00e9\u200b\u200c\u200d\ufe0f\U0001f600\u0645CONconNUL1")
)


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
        ("CONIN$", "_CONIN$"),
        ("COM¹.txt", "_COM¹.txt"),
        ("nul .txt", "_nul .txt"),
        ("COM10", "COM10"),
        ("ann\u202efdp.exe", "annfdp.exe"),
        ("a\u2066b\u2069\u200e\u200f.pdf", "ab.pdf"),
        ("👩\u200d⚕️.png", "👩\u200d⚕️.png"),
        ("half a pair \ud800.pdf", "half a pair _.pdf"),
        ("😀\u200d😀", "😀\u200d😀"),
        ("\u0645\u06cc\u200c\u062e.pdf", "\u0645\u06cc\u200c\u062e.pdf"),
        ("new \U0001fae8.png", "new \U0001fae8.png"),
        ("क्\u200dष.pdf", "क्\u200dष.pdf"),
        ("❤\ufe0f.png", "❤\ufe0f.png"),
        ("a\u200db\u200cc\u200bd\u2060e\ufefff\u00adg.pdf", "abcdefg.pdf"),
        ("x\ufe0f\u180e\u061c\u2028\u2029.pdf", "x.pdf"),
        ("\u3164\u115f\uffa0\u2800", "attachment"),
        ("\U000e0041\U000e0100a\ufff9\uffff.pdf", "a.pdf"),
        ("\u200d😀\u200d", "😀"),
        ("uit\u00a0slag\u3000x.pdf", "uit slag x.pdf"),
        ("annexe.pdf" + " " * 90 + ".exe", "annexe.pdf .exe"),
        ("-rf", "_-rf"),
        ("--help.pdf", "_--help.pdf"),
        ("\u200b-rf", "_-rf"),
        (" .-rf", "_-rf"),
        ("~root", "_~root"),
        ("desktop.ini", "_desktop.ini"),
        ("Autorun.INF", "_Autorun.INF"),
        ("CLOCK$", "_CLOCK$"),
        ("COM0", "_COM0"),
        ("c\u200bon.txt", "_con.txt"),
        ("con .pdf", "_con .pdf"),
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
    assert not name.startswith((".", " ", "-", "~"))
    assert not {"Cc", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, name))
    assert not set("\u200b\u200e\u202e\u2060\ufeff\u00ad") & set(name)
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


@pytest.mark.slow
@given(st.text(st.sampled_from(".\u00e9 a\u200d\ufe0f\U0001f600"), min_size=150, max_size=400))
def test_no_long_name_does_harm(suggested: str) -> None:
    assert_harmless(safe_name(suggested))
    assert safe_name(safe_name(suggested)) == safe_name(suggested)


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
    target = tmp_path / safe_name(suggested)

    target.write_bytes(b"x")

    assert target.suffix == ".pdf"
    assert unicodedata.normalize("NFC", target.name[0]) == suggested[0]


@given(names, st.text(min_size=1))
def test_a_stored_name_does_no_harm_either(suggested: str, attachment_id: str) -> None:
    assert_harmless(stored_name(Attachment(attachment_id.encode(errors="replace").decode(), suggested)))


def test_equal_names_of_two_attachments_never_meet_and_one_keeps_its_own() -> None:
    one, other = (stored_name(Attachment(name, "foto.jpg")) for name in ("a1", "a2"))
    assert one != other
    assert one == stored_name(Attachment("a1", "foto.jpg", 17))
    assert one.startswith("foto-")
    assert one.endswith(".jpg")
