"""Reading a file, whatever program has written it."""

from pathlib import Path
from typing import Final

from healthmsg.cli.recipients.encodings import Decoded, decode
from healthmsg.cli.recipients.json_lines import read_json_lines
from healthmsg.cli.recipients.problems import Problem, RefusedError
from healthmsg.cli.recipients.rows import Recipients
from healthmsg.cli.recipients.tables import read_table

# Spreadsheets are often given for what was to be exported from them.
_SPREADSHEETS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def read_recipients(path: Path, encoding: str | None = None) -> Recipients:
    """Read the recipients, all of them.

    Raises:
        RefusedError: the file cannot be read as a whole. Single rows are among the problems.
    """
    data = _bytes(path)
    if data.startswith(_SPREADSHEETS):
        raise RefusedError("the file is a spreadsheet: save it as CSV (UTF-8) first")
    decoded = decode(data, encoding)
    if not decoded.text.strip():
        raise RefusedError("the file is empty")
    _refuse_nul(decoded.text)
    is_json = decoded.text.lstrip()[0] in "{["
    recipients = read_json_lines(decoded.text) if is_json else read_table(decoded.text)
    recipients.form = f"{decoded.encoding}, {recipients.form}"
    recipients.is_guess = decoded.is_guess
    return recipients


def read_text_file(path: Path, encoding: str | None = None) -> Decoded:
    """Read a text, such as that of a template.

    Raises:
        RefusedError: the file cannot be read.
    """
    return decode(_bytes(path), encoding)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{path.name} cannot be read: {error.strerror or type(error).__name__}"
    raise RefusedError(problem)


def _refuse_nul(text: str) -> None:
    lines: dict[int, None] = {}
    line = 1
    after = 0
    while (at := text.find("\0", after)) >= 0:
        line += text.count("\n", after, at)
        lines[line] = None
        after = at + 1
    if lines:
        raise RefusedError(
            *(Problem("there is a NUL byte: the file is damaged, or no text", line) for line in lines)
        )
