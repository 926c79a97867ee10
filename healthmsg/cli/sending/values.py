"""What is wrong with a single value, though it is where it belongs."""

import re
from typing import Final

from healthmsg.addresses import ChatAddress
from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.identifiers import encode_segment

USERS: Final = "users/"
_KINDS: Final = "conversations/…, groupchats/…, aux/conversations/…, aux/groupchats/… or users/…"
_DIACRITIC: Final = (
    "the vendor's own program leaves it out (José is Jose there), so write the id as it was registered;"
    " if that is with the diacritic, --exact-aux-ids sends all as they are"
)
# 1.23E+15, in Dutch 1,23E+15.
_ROUNDED: Final = re.compile(r"-?\d(?:[.,]\d+)?E\+\d+")
# What a spreadsheet shows instead of a value, in English and in Dutch.
_FAILED: Final = re.compile(
    r"#(?:N/A|N/B|REF!|VERW!|VALUE!|WAARDE!|NAME\?|NAAM\?|DIV/0!|DEEL/0!|NUM!|GETAL!|NULL!|LEEG!|#+)"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def problem_of_value(value: str) -> str | None:
    """Say what is wrong with any value that is used."""
    if value.startswith("#") and _FAILED.fullmatch(value):
        return "has what a spreadsheet shows when a formula failed"
    if _CONTROL.search(value):
        return "has a control character"
    return None


def problem_of_id(value: str) -> str | None:
    """Say what is wrong with an id of any kind."""
    if problem := problem_of_value(value):
        return problem
    if _ROUNDED.fullmatch(value.rpartition("/")[2]):
        return "was rounded to something like 1.23E+15 by a spreadsheet: make that column text there"
    if not value.isprintable():
        return "has a character that cannot be seen"
    return None


def problem_of_address(address: str, *, is_exact: bool) -> str | None:
    """Say what is wrong with an address of a chat or user. `is_exact`: a diacritic is meant."""
    try:
        if address.startswith(USERS):
            encode_segment(address.removeprefix(USERS), "the id of a user")
        else:
            ChatAddress.parse(address)
    except AmbiguousAuxIdError:
        return None if is_exact else f"has a diacritic: {_DIACRITIC}"
    except InvalidIdError:
        return f"is no address: {_KINDS} with an id is one"
    return None
