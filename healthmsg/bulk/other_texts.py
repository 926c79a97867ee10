"""Which recipients already got another text from the journal, and which texts that wait are replaced."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

from attrs import field, frozen

from healthmsg.bulk.journal import Entry, EntryStatus, InputIndex, Journal, State
from healthmsg.errors import OtherTextError

OtherText = Literal["send", "skip"]
"""What to do with a message whose recipient already got, or may have got, another one from the journal."""
OTHER_TEXTS: Final[tuple[OtherText, ...]] = ("send", "skip")

_OTHER: Final = (
    "This recipient already got, or may have got, another message from this journal, which this run was not"
    " given"
)
# No run has this number.
_NEW: Final = -1
_PERHAPS_SENT: Final = (State.DELIVERED, State.SENDING, State.UNKNOWN)
_REPLACEABLE: Final = (State.PARKED, State.NOT_SENT, State.SENDING, State.UNKNOWN)


@frozen
class Compared:
    """What the journal has for the recipients of some messages, besides these messages."""

    to_written: frozenset[str] = field(repr=False)
    """The keys of those whose recipient got, or may have got, another one."""
    superseded: tuple[str, ...] = field(repr=False)
    """The keys of earlier ones that these replace, should they not have been delivered."""


async def compare(
    entries: Sequence[Entry], statuses: Mapping[str, EntryStatus], journal: Journal, given: InputIndex
) -> Compared:
    """Compare messages of a run with what earlier runs were given for the same recipients.

    Those that this run was given too are no others, nor those that an earlier run was given together with the
    message.
    """
    by_run: dict[int, list[Entry]] = {}
    for entry in entries:
        status = statuses.get(entry.key)
        run = None if status is None else status.run
        by_run.setdefault(_NEW if run is None else run, []).append(entry)
    to_written, superseded = set[str](), dict[str, None]()
    for run, alike in by_run.items():
        others = await _others(journal, given, {entry.chat for entry in alike}, besides=run)
        for entry in alike:
            for other in others.get(entry.chat, ()):
                if other.state in _PERHAPS_SENT:
                    to_written.add(entry.key)
                if other.state in _REPLACEABLE:
                    superseded[other.key] = None
    return Compared(frozenset(to_written), tuple(superseded))


async def _others(
    journal: Journal, given: InputIndex, chats: Collection[str], *, besides: int
) -> dict[str, list[EntryStatus]]:
    """Return what the present run was not given, by chat."""
    earlier = await journal.earlier(chats, besides=besides)
    known = given.known_among([one.key for one in earlier]) if earlier else ()
    others: dict[str, list[EntryStatus]] = {}
    for one in earlier:
        if one.key not in known:
            others.setdefault(one.chat, []).append(one)
    return others


def would_be_sent(status: EntryStatus | None, *, retry_failed: bool) -> bool:
    """Return whether a message is new to the journal, or would be sent once it is given again."""
    if status is None or status.is_new or status.state is State.PARKED:
        return True
    return retry_failed and status.state is State.NOT_SENT


def error_of_skipped() -> OtherTextError:
    """Return the error of a message that is left out."""
    return OtherTextError(f'{_OTHER}. Nothing was sent; other_text="send" (--send-again) sends this one too.')


def error_of_looked_at() -> OtherTextError:
    """Return the error of a message of a dry run."""
    return OtherTextError(f'{_OTHER}. With other_text="send" this one is sent too, with "skip" it is not.')
