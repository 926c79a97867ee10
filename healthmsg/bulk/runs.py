"""Which kind of run does what was asked for."""

import os
from typing import Final, TypedDict, cast

from healthmsg.api import Api
from healthmsg.bulk.dry_run import DryRun
from healthmsg.bulk.hold import STOP_AFTER
from healthmsg.bulk.journal import Journal
from healthmsg.bulk.journal_sender import JournalSendMany
from healthmsg.bulk.messages import Messages
from healthmsg.bulk.other_texts import OtherText
from healthmsg.bulk.plain_sender import PlainSendMany
from healthmsg.bulk.reconcile import SETTLE
from healthmsg.bulk.sender import OnUnknown, SendMany, SendOptions
from healthmsg.errors import InvalidInputError
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.validation import check_flag

_NOTHING: Final = "send_many needs messages, or a journal that holds some"


class SendManyOptions(TypedDict, total=False):
    """The options of `send_many`, all of them optional; see there."""

    journal: str | os.PathLike[str] | None
    """None unless given."""
    on_unknown: OnUnknown
    """"reconcile" unless given."""
    settle: float
    """Seconds; 90 unless given."""
    retry_failed: bool
    """False unless given."""
    stop_after: float
    """Seconds; 600 unless given."""
    other_text: OtherText
    """With a journal: what to do with a message whose recipient already got, or may have got, another one
    from it, which this run was not given. "send" unless given; with "skip" it is not sent, and its result has
    an `OtherTextError`. Either way the report counts them."""
    superseded: bool
    """Without messages: also send what a later run had something else for; False unless given."""
    check_chats: bool
    """Of a dry run; False unless given."""


def run_of(api: Api, messages: Messages | None, given: SendManyOptions, rate: RateLimit) -> SendMany:
    """Make a run, with a journal or without.

    Raises:
        InvalidInputError: there are neither messages nor a journal, or an option cannot be right.
        ConfigurationError: the journal can be none.
    """
    journal, options, check_chats = _taken_apart(messages, given)
    if check_chats:
        raise InvalidInputError("check_chats is for a dry run")
    if journal is not None:
        opened = Journal.open(journal, patience=options.stop_after)
        return JournalSendMany(api, messages, options, opened, rate)
    if options.retry_failed:
        raise InvalidInputError("retry_failed needs a journal, which knows what has failed")
    return PlainSendMany(api, cast(Messages, messages), options)


def dry_run_of(api: Api, messages: Messages | None, given: SendManyOptions, rate: RateLimit) -> DryRun:
    """Make a dry run.

    Raises:
        InvalidInputError: there are neither messages nor a journal, or an option cannot be right.
    """
    journal, options, check_chats = _taken_apart(messages, given)
    return DryRun(api, messages, journal, options, rate=rate, check_chats=check_chats)


def _taken_apart(
    messages: Messages | None, given: SendManyOptions
) -> tuple[str | os.PathLike[str] | None, SendOptions, bool]:
    unknown = set(given) - set(SendManyOptions.__annotations__)
    if unknown:
        raise TypeError(f"send_many() got an unexpected keyword argument {min(unknown)!r}")
    journal = given.get("journal")
    if messages is None and journal is None:
        raise InvalidInputError(_NOTHING)
    options = SendOptions(
        given.get("on_unknown", "reconcile"),
        given.get("settle", SETTLE),
        given.get("retry_failed", False),
        given.get("stop_after", STOP_AFTER),
        given.get("other_text", "send"),
        given.get("superseded", False),
    )
    if options.superseded and messages is not None:
        raise InvalidInputError("superseded is for a run without messages: what is given is sent anyway")
    if "other_text" in given and (journal is None or messages is None):
        raise InvalidInputError("other_text needs messages, and a journal, which knows who got what")
    return journal, options, check_flag(given.get("check_chats", False), "check_chats")
