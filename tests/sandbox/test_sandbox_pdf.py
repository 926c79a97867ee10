"""A chat as a PDF."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from healthmsg.sandbox import Sandbox
from tests.caller import Answer, Caller


async def fetch(call: Caller, link: Answer) -> Answer:
    cookie = "; ".join(f"{name}={value}" for name, value in link.cookies.items())
    return await call("GET", link.document["link"], headers={"Cookie": cookie})


def check_table(pdf: bytes) -> None:
    """Every object begins where the table says, and every stream is as long as it says."""
    start = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[0])
    assert pdf[start:].startswith(b"xref\n0 ")
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n ", pdf[start:]), start=1):
        assert pdf[int(offset) :].startswith(b"%d 0 obj\n" % number)
    for stream in re.finditer(rb"/Length (\d+) >>\nstream\n", pdf):
        assert pdf[stream.end() + int(stream[1]) :].startswith(b"\nendstream\nendobj\n")


async def test_a_pdf_comes_over_a_link_and_holds_the_messages(call: Caller, sandbox: Sandbox) -> None:
    body = "Zoë (bed 7) zegt: \\o/ 🙂\n€ 5\x07 " + "lang " * 60
    chat = sandbox.add_group_chat(
        "Wijkteam \u2013 Noord", messages=[body, *(f"bericht {n}" for n in range(200))]
    )
    link = await call("GET", f"groupchats/{chat}/pdf?headers=false")
    assert (link.status, link.headers["Location"]) == (302, link.document["link"])
    assert (await call("GET", link.document["link"])).status == 403
    file = await fetch(call, link)
    assert (file.status, file.headers["Content-Type"]) == (200, "application/pdf")
    assert "chat.pdf" in file.headers["Content-Disposition"]
    assert file.body.startswith(b"%PDF-1.")
    check_table(file.body)
    assert b"Zo\xeb \\(bed 7\\) zegt: \\\\o/ ?" in file.body
    assert b"(\x80 5? lang" in file.body
    assert b"(Wijkteam \x96 Noord)" in file.body
    assert file.body.index(b"(bericht 0)") < file.body.index(b"(bericht 199)")
    assert file.body.count(b"/Type /Page /Parent") > 5


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed")
async def test_another_program_reads_it(call: Caller, sandbox: Sandbox, tmp_path: Path) -> None:
    chat = sandbox.add_conversation(messages=[f"bericht {n} ({n}) à la Zoë" for n in range(150)])
    file = await fetch(call, await call("GET", f"conversations/{chat}/pdf"))
    path = tmp_path / "chat.pdf"
    path.write_bytes(file.body)
    done = subprocess.run(  # noqa: ASYNC221, S603 - a short one, with our own file
        ["pdftotext", "-layout", str(path), "-"],  # noqa: S607 - whichever is installed
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    assert [line.strip("\f") for line in done.stdout.split("\n") if "bericht" in line] == [
        f"bericht {n} ({n}) à la Zoë" for n in range(150)
    ]


async def test_the_dates_choose_the_messages(session: ClientSession) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with Sandbox(now=lambda: moment) as sandbox:
        call = Caller(sandbox, session)
        chat = f"conversations/{sandbox.add_conversation()}"
        for hour in range(4):
            await call("POST", f"{chat}/messages", json={"body": f"uur {hour}"})
            moment += timedelta(hours=1)
        for query, hours in (
            ("", [0, 1, 2, 3]),
            ("start_date=2026-01-02T04:04:05Z%2B00:00", [1, 2, 3]),
            ("end_date=2026-01-02T05:04:05Z%2B00:00", [0, 1, 2]),
            ("start_date=2026-01-02T04:04:05Z&end_date=2026-01-02T05:04:05", [1, 2]),
            ("start_date=2026-01-02T06:04:05%2B02:00&end_date=2026-01-02T05:04:05-01:00", [1, 2, 3]),
            ("start_date=2026-01-03", []),
            ("start_date=0001-01-01T00:00:00%2B23:59&end_date=9999-12-31T23:59:59-23:59", [0, 1, 2, 3]),
        ):
            file = await fetch(call, await call("GET", f"{chat}/pdf?{query}"))
            assert [hour for hour in range(4) if b"(uur %d)" % hour in file.body] == hours, query
            check_table(file.body)


@pytest.mark.parametrize(
    "query",
    [
        "start_date=",
        "start_date=gisteren",
        "end_date=2026-13-01",
        "start_date=2026-01-02T03:04:05Z+00:00",
        "start_date=2026-01-02T03:04:05%2B99:00",
        "end_date=%00",
        "end_date=%ff",
        "start_date=2026-01-03&end_date=2026-01-02",
    ],
)
async def test_a_date_that_cannot_be_is_refused(call: Caller, sandbox: Sandbox, query: str) -> None:
    chat = sandbox.add_conversation()
    assert (await call("GET", f"conversations/{chat}/pdf?{query}")).status == 400


async def test_who_is_not_in_a_chat_gets_no_pdf_of_it(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    call.token = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
    assert (await call("GET", f"conversations/{chat}/pdf")).status == 404
