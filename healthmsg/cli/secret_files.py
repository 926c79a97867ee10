"""Secrets as files, as containers get them: `HEALTHMSG_TOKEN_FILE` names the file with `HEALTHMSG_TOKEN`."""

import os
from pathlib import Path
from typing import Final

from healthmsg.cli.files import JOURNAL_VARIABLE
from healthmsg.cli.problems import RefusedError, system_reason

VARIABLES: Final = (
    *("HEALTHMSG_TOKEN", JOURNAL_VARIABLE),
    # Of tokens that are renewed: a store's URL may have a password in it.
    *("HEALTHMSG_TOKEN_STORE", "HEALTHMSG_CLIENT_SECRET"),
)
ENDING: Final = "_FILE"
# Bytes; more is no secret of these.
_LONGEST: Final = 16 * 1024


def read_secret_files() -> None:
    """Set each of the variables that a file stands for.

    Raises:
        RefusedError: a file cannot be used, or its variable is set as well.
    """
    for variable in VARIABLES:
        if path := os.environ.get(variable + ENDING, ""):
            if os.environ.get(variable):
                raise RefusedError(f"{variable} and {variable}{ENDING} are both set: unset one of them")
            os.environ[variable] = _read(variable + ENDING, Path(path))


def _read(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = file.read(_LONGEST + 1)
    except OSError as error:
        problem = f"cannot be read: {system_reason(error)}"
    else:
        try:
            text = found.decode().strip()
        except UnicodeDecodeError:
            text = ""
        if text and len(found) <= _LONGEST and text.isprintable():
            return text
        problem = "has no secret in it: one line of text, in UTF-8"
    raise RefusedError(f"the file that {name} names {problem}")
