"""Files whose names have signs that mean something to a shell, a URL or a terminal."""

import asyncio
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthmsg.cli.files import JournalLocation, sibling_path
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.sending.options import Options
from healthmsg.database.target import Target, text_of
from healthmsg.errors import ConfigurationError
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.cli.command_line import Done, invoke, run, split_as_shell, variables_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its files have no such names")

NAMES = [
    "lijst?.csv",
    "lijst?a=b.csv",
    "lijst?keep_bodies=1",
    "lijst?keep_bodies=1?keep_bodies=0.csv",
    "lijst#1.csv",
    "100%20.csv",
    "a b & c.csv",
    "a\\b.csv",
    "-lijst.csv",
    "--yes",
    'it\'s "so".csv',
    "$HOME `x` *! :smile: [bold]x.csv",
    "~.csv",
    "lijst\n2.csv",
    "tab\t\x1b[31m.csv",
    "caf\u00e9 cafe\u0301 \U0001f600.csv",
    os.fsdecode(b"caf\xe9.csv"),
    "l" * 251 + ".csv",
    "é" * 120 + ".csv",
]


def write(path: Path, sandbox: Sandbox) -> list[str]:
    """Write a file of two recipients, and return their chats."""
    path.write_text("aux_id;n\nP0;0\nP1;1\n")
    return [f"conversations/{sandbox.add_conversation(aux_id=f'P{n}')}" for n in range(2)]


def printed_command(done: Done) -> str:
    found = re.search(r"(?:Go on with|Try again what was not sent): (.*)", done.out)
    assert found, done
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        *[(".", name) for name in ("wie?.csv", "-x?a=b.csv", "it's %20 #&\\\n.csv", "l" * 251 + ".csv")],
        *[(".", os.fsdecode(b"caf\xe9.csv")), ("map?keep_bodies=1", "lijst?keep_bodies=1.csv")],
    ],
    ids=ascii,
)
async def test_all_is_sent_and_what_is_printed_goes_on(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    path = tmp_path / folder / name
    chats = write(path, sandbox)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST")
    monkeypatch.chdir(tmp_path)

    failed = await run(
        sandbox,
        "send-many",
        path.relative_to(tmp_path) if name[0] != "-" else f"./{name}",
        "--template",
        "Hallo {n}",
        "--yes",
        "--results",
        "1.csv",
    )

    assert failed.code == 1, failed
    program, *words = split_as_shell(printed_command(failed))
    assert program == "healthmsg"
    done = await run(sandbox, *words, "--yes")
    assert done.code == 0, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 1]
    (journal,) = path.parent.glob("*.journal.db")
    for command in (("show",), ("export", "--to", "out.csv"), ("purge", "--older-than", "9d", "--yes")):
        done = await asyncio.to_thread(invoke, "journal", command[0], journal, *command[1:])
        assert done.code == 0, done
    again = ("send-many", path, "--template", "Hallo {n}", "--yes", "--results", "2.csv")
    done = await asyncio.to_thread(invoke, *again, env=variables_of(sandbox))
    assert done.code == 0, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 1]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_shell_reads_back_the_words_of_the_command(name: str) -> None:
    options = Options(recipients=Path(name), template=name, journal=text_of(Path(name)), results=Path("x"))

    words = split_as_shell(options.command)

    assert options.command.isprintable()
    start = "./" if name.startswith("-") else ""
    template = [f"--template={name}"] if name.startswith("-") else ["--template", name]
    journal = f"{start}{text_of(Path(name))}"
    assert words == ["healthmsg", "send-many", f"{start}{name}", *template, "--journal", journal]


@settings(deadline=None)
@given(st.one_of(st.sampled_from(NAMES), st.text(st.characters(exclude_characters="/\0"), min_size=1)))
def test_the_text_of_a_path_is_read_as_that_path(name: str) -> None:
    path = Path("nowhere") / name

    assert Target.parse(text_of(path)).path == path
    assert Target.parse(f"{path}?keep_bodies=1") == Target.parse(text_of(path, keep_bodies=True))


@pytest.mark.parametrize("name", ["x?a=b", "x?keep_bodies", "x?keep_bodies=1", "x?keep_bodies=0"])
def test_a_file_of_exactly_that_name_is_meant(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    assert Target.parse(f"{tmp_path / name}") == Target(tmp_path / name, None)
    assert Target.parse(f"sqlite:///{tmp_path / name}") == Target(tmp_path / name, None)


@pytest.mark.parametrize("name", ["x?a=b", "x?keep_bodies", "x?keep_bodie=1", "x?keep_bodies=1&a=b"])
def test_what_may_be_a_slip_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"end it with \?keep_bodies=0"):
        Target.parse(name)

    assert Target.parse(f"{name}?keep_bodies=0").path == Path(name)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_what_belongs_to_a_file_has_a_name_that_fits_and_is_its_own(tmp_path: Path, name: str) -> None:
    journal = sibling_path(tmp_path / name, ".journal.db")

    Path(f"{journal}-journal").touch()
    assert journal == sibling_path(tmp_path / name, ".journal.db")
    assert journal != sibling_path(tmp_path / f"x{name[1:]}", ".journal.db")


URLS = [
    "postgresql://me:s3cret@host/db?sslmode=verify-full&sslrootcert=/etc/ca.pem&options=-csearch_path%3Dx",
    "postgresql://me@host/db?password=s3cret&sslmode=require",
    "postgresql://me@host/db?sslpassword=s3cret&sslkey=/k&sslcert=/c",
]


@pytest.mark.parametrize("url", URLS)
def test_no_command_shows_a_password_nor_has_the_shell_fill_it_in(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HEALTHMSG_JOURNAL", url)
    in_quotes = "'$HEALTHMSG_JOURNAL'"

    for named in (url, "$HEALTHMSG_JOURNAL"):
        place = JournalLocation.parse(named)
        assert place.target == url
        assert Options().command_to_resume(place) == f"healthmsg send-many --resume --journal {in_quotes}"
        assert Options(journal=named).command == f"healthmsg send-many --journal {in_quotes}"
        assert "s3cret" not in place.text + place.argument + repr(place)

    monkeypatch.delenv("HEALTHMSG_JOURNAL")
    with pytest.raises(RefusedError, match="HEALTHMSG_JOURNAL is not set"):
        JournalLocation.parse("$HEALTHMSG_JOURNAL")
    place = JournalLocation.parse(url)
    assert place.argument == place.text == unquote(url).replace("s3cret", "***").replace("h=x", "h%3Dx")
    assert "s3cret" not in Options().command_to_resume(place)
