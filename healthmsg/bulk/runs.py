"""Which kind of run does what was asked for."""

import os

from healthmsg.bulk.journal import Journal
from healthmsg.bulk.journal_sender import JournalSendMany
from healthmsg.bulk.messages import Messages
from healthmsg.bulk.plain_sender import PlainSendMany
from healthmsg.bulk.sender import SendMany, SendOptions
from healthmsg.errors import InvalidInputError
from healthmsg.resources.api import Api


def run_of(
    api: Api, messages: Messages | None, options: SendOptions, journal: str | os.PathLike[str] | None
) -> SendMany:
    """Make a run, with a journal or without.

    Raises:
        InvalidInputError: there are neither messages nor a journal.
        ConfigurationError: the journal can be none.
    """
    if journal is not None:
        return JournalSendMany(api, messages, options, Journal.open(journal, patience=options.stop_after))
    if messages is None:
        raise InvalidInputError("send_many needs messages, or a journal that holds some")
    if options.retry_failed:
        raise InvalidInputError("retry_failed needs a journal, which knows what has failed")
    return PlainSendMany(api, messages, options)
