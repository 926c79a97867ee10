"""Entering messages into a journal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen
from sqlalchemy import Connection

from healthmsg.bulk.journal import input_index as keys
from healthmsg.bulk.journal import recipients, statements
from healthmsg.bulk.journal.base import Entry, EntryStatus, State
from healthmsg.bulk.journal.run_numbers import note_unread
from healthmsg.errors import InvalidInputError, JournalMismatchError

# Bytes. They are indexed, and PostgreSQL's indexes take 2700.
_LONGEST: Final = 1000


@frozen
class Prepared:
    """An entry as it will be written."""

    entry: Entry
    said: tuple[str | None, ...] = field(repr=False)
    fingerprint: bytes = field(repr=False)
    body_hash: bytes = field(repr=False)
    refused: EntryStatus | None = None

    @property
    def key(self) -> str:
        """What it is known under."""
        return self.entry.key


@frozen
class Entering:
    """Enters what is new, and tells what is known of the rest."""

    _salt: bytes
    _is_shared: bool
    _retry_failed: bool
    _run: int = 0

    def prepare(self, entry: Entry) -> Prepared:
        """Hash an entry, or refuse it alone: nothing may stop the others."""
        problem = _what_is_wrong(entry)
        if problem:
            # A key that cannot be stored cannot be looked up either.
            refusal = InvalidInputError(problem)
            return Prepared(entry, (), b"", b"", EntryStatus(entry.key, entry.chat, None, problem=refusal))
        files, question = keys.files_as_json(entry.files), keys.question_as_json(entry.question)
        return Prepared(
            entry,
            (entry.key, entry.chat, entry.body, files, question),
            entry.fingerprint
            or keys.fingerprint_of(entry.chat, entry.body, entry.files, entry.question, salt=self._salt),
            keys.body_hash(self._salt, entry.body),
        )

    def enter(
        self,
        connection: Connection,
        prepared: Sequence[Prepared],
        same_chats: Iterable[Sequence[str]] = (),
        superseded: Sequence[str] = (),
    ) -> list[EntryStatus]:
        """Enter them in the transaction that has begun, and tell how each stands, in the same order.

        `same_chats` are addresses of theirs that are known to lead to the same chat, `superseded` the keys of
        messages of earlier runs that these replace.
        """
        if self._is_shared:
            connection.execute(statements.ENTER_ALONE)
        recipients.learn(connection, same_chats)
        if superseded:
            connection.execute(statements.SUPERSEDE, {"rows": [[key] for key in superseded]})
            note_unread(connection, self._run)
        wanted = [one for one in prepared if one.refused is None]
        known = self._known(connection, wanted)
        new: dict[str, Prepared] = {}
        statuses: list[EntryStatus] = []
        for one in prepared:
            if one.refused is not None:
                statuses.append(one.refused)
            elif one.key in known:
                statuses.append(_standing(one, known[one.key]))
            else:
                statuses.append(_standing_of_new(one, new.setdefault(one.key, one)))
        self._insert(connection, list(new.values()))
        self._move_files(connection, wanted, known)
        self._label(connection, wanted, known)
        return self._reopen(connection, statuses)

    def look_up(self, connection: Connection, prepared: Sequence[Prepared]) -> list[EntryStatus]:
        """Tell how each stands; of one that is not known, that it is new and waits."""
        known = self._known(connection, [one for one in prepared if one.refused is None])
        return [
            one.refused
            or (_standing(one, known[one.key]) if one.key in known else _standing_of_new(one, one))
            for one in prepared
        ]

    def _known(self, connection: Connection, wanted: Iterable[Prepared]) -> dict[str, Any]:
        found = connection.execute(statements.KNOWN, {"rows": [[one.key] for one in wanted]})
        return {row.key: row for row in found.all()}

    def _insert(self, connection: Connection, new: Sequence[Prepared]) -> None:
        if not new:
            return
        last = connection.execute(statements.LAST_POSITION).scalar_one()
        recipient_of = recipients.recipients_of(connection, {one.entry.chat for one in new})
        wanted = {"rows": [[recipient] for recipient in set(recipient_of.values())]}
        held_up = set(connection.execute(statements.WITH_NEXT, wanted).scalars())
        rows = []
        for number, one in enumerate(new):
            recipient = recipient_of[one.entry.chat]
            hashes_at = 1 + number * 2 * keys.HASH_LENGTH
            is_next = recipient not in held_up
            label = one.entry.label
            rows.append((*one.said, hashes_at, last + 1 + number, is_next, recipient, label))
            held_up.add(recipient)
        hashes = b"".join(one.fingerprint + one.body_hash for one in new)
        connection.execute(statements.INSERT, {"rows": rows, "hashes": hashes, "b_run": self._run, **_now()})

    def _move_files(
        self, connection: Connection, prepared: Sequence[Prepared], known: Mapping[str, Any]
    ) -> None:
        """Note where the files of those that are known lie now: an earlier run's may be gone."""
        rows = [
            [one.key, files]
            for one in prepared
            if one.key in known and known[one.key].fingerprint == one.fingerprint
            for files in [keys.files_as_json(one.entry.files)]
            if files is not None
        ]
        if rows:
            connection.execute(statements.MOVE_FILES, {"rows": rows})

    def _label(self, connection: Connection, prepared: Sequence[Prepared], known: Mapping[str, Any]) -> None:
        """Note what those that are known are called now."""
        rows = [
            [one.key, one.entry.label]
            for one in prepared
            if one.key in known
            and known[one.key].fingerprint == one.fingerprint
            and one.entry.label not in {None, known[one.key].label}
        ]
        if rows:
            connection.execute(statements.LABEL, {"rows": rows})

    def _reopen(self, connection: Connection, statuses: Sequence[EntryStatus]) -> list[EntryStatus]:
        """Let those wait again, in their old places, that were set aside, or that are to be tried again."""
        states = {State.PARKED, State.NOT_SENT} if self._retry_failed else {State.PARKED}
        reopened = {status.key for status in statuses if status.state in states and status.problem is None}
        if not reopened:
            return list(statuses)
        reopen(connection, reopened)
        return [
            EntryStatus(status.key, status.chat, State.WAITING, attempts=status.attempts)
            if status.key in reopened and status.problem is None
            else status
            for status in statuses
        ]


def reopen(connection: Connection, keys_wanted: Iterable[str]) -> None:
    """Let messages wait again, in their old places."""
    rows = {"rows": [[key] for key in keys_wanted]}
    connection.execute(statements.REOPEN, {**rows, **_now()})
    whose = list(connection.execute(statements.RECIPIENTS_OF_KEYS, rows).scalars())
    wanted = {"rows": [[recipient] for recipient in whose]}
    connection.execute(statements.NO_LONGER_NEXT, wanted)
    # Of the others the next one is being sent: what comes after it is decided then.
    held = set(connection.execute(statements.WITH_NEXT, wanted).scalars())
    free = [[recipient] for recipient in whose if recipient not in held]
    if free:
        connection.execute(statements.PROMOTE, {"rows": free})


def _now() -> dict[str, object]:
    return {"b_now": datetime.now(UTC)}


def status_of(row: Any, problem: JournalMismatchError | None = None) -> EntryStatus:
    """Read what is known of a message."""
    return EntryStatus(
        row.key,
        row.chat,
        State(row.state),
        is_final=row.is_final,
        message_id=row.message_id,
        error=row.error,
        attempts=row.attempts,
        problem=problem,
        run=row.run,
        label=row.label,
    )


def _standing(one: Prepared, row: Any) -> EntryStatus:
    return status_of(row, None if row.fingerprint == one.fingerprint else _mismatch())


def _standing_of_new(one: Prepared, first: Prepared) -> EntryStatus:
    """Tell of a new one how it stands; the same key may come twice in one go."""
    is_same = first.fingerprint == one.fingerprint
    problem = None if is_same else _mismatch()
    return EntryStatus(one.key, one.entry.chat, State.WAITING, is_new=one is first, problem=problem)


def _mismatch() -> JournalMismatchError:
    return JournalMismatchError(
        "Another message is known under this key: its chat, text, files (what is in them) or question differ."
        " Nothing was entered. If this one is to be sent as well, give it a key of its own."
    )


def _what_is_wrong(entry: Entry) -> str:
    for name, value, most in (("key", entry.key, _LONGEST), ("chat", entry.chat, _LONGEST)):
        if not value or not can_be_stored(value, most):
            return f"the {name} of a message in a journal must be text of 1 to {most} bytes"
    if entry.fingerprint is not None and len(entry.fingerprint) != keys.HASH_LENGTH:
        return f"the fingerprint of a message must have {keys.HASH_LENGTH} bytes"
    if entry.label is not None and not can_be_stored(entry.label, _LONGEST):
        return f"the label of a message in a journal must be text of at most {_LONGEST} bytes"
    if not can_be_stored(entry.body):
        return "the body has a character that cannot be stored: a NUL, or half of a surrogate pair"
    return ""


def can_be_stored(value: str, most: int | None = None) -> bool:
    """Tell whether both databases take a text."""
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        return False
    return "\0" not in value and (most is None or length <= most)
