"""Operations of several statements, each within a transaction that has begun.

They enter messages, keep which addresses lead to one recipient, start runs, and note decisions.

That addresses lead to one recipient is kept in the journal, for later runs and other workers: the messages to
one recipient keep one order. The key and the fingerprint of a message do not depend on it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import evolve
from sqlalchemy import Connection

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.base import Decision, Entry, EntryStatus
from healthmsg.bulk.journal.input_index import (
    HASH_LENGTH,
    body_hash,
    files_as_json,
    files_of_json,
    question_as_json,
)
from healthmsg.database import recovery
from healthmsg.database.states import State
from healthmsg.database.tables import read_meta, write_meta
from healthmsg.errors import InvalidInputError, JournalInUseError, JournalMismatchError, Outcome
from healthmsg.ids import USERS, ChatKind, plain_address

# Bytes. They are indexed, and PostgreSQL's indexes take 2700.
LONGEST: Final = 1000
_RUN: Final = "run"
_UNREAD: Final = "run that replaces others and has not read all"
_CONVERSATIONS: Final = f"{ChatKind.CONVERSATION.path}/"
# A message that was not sent is parked for a run that is given it.
_DECIDED_STATES: Final = {Outcome.DELIVERED: State.DELIVERED, Outcome.NOT_SENT: State.PARKED}
_MISMATCH: Final = (
    "Another message is known under this key: its chat, text, files (what is in them) or question differ."
    " Nothing was entered. If this one is to be sent as well, give it a key of its own."
)
_CLAIMED: Final = (
    "A worker is reconciling this message just now. Nothing was changed: wait until its run has ended."
)


def rows_of(texts: Iterable[str]) -> dict[str, list[list[str]]]:
    """Return the parameter `rows` with these texts, each as a row."""
    return {"rows": [[one] for one in texts]}


def can_be_stored(value: str, most: int | None = None) -> bool:
    """Return whether both databases take a text."""
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        return False
    return "\0" not in value and (most is None or length <= most)


# --- runs


def start_run(
    connection: Connection, unparked: Sequence[State], *, superseded: bool, is_alone: bool
) -> tuple[int, tuple[int, bool] | None]:
    """Decide which of the messages that are here already are to be sent.

    Those in the states `unparked` wait again; if there are none, all that wait are parked, and a run begins.
    Return how many are left out since they were replaced, and the run: its number, and whether there are
    messages already.
    """
    if unparked or is_alone:
        connection.execute(statements.JOIN_AGAIN)
    if not unparked:
        if is_alone:
            connection.execute(statements.PARK_WAITING)
            if connection.execute(statements.HAS_CAMPAIGNS).first():
                # Of a campaign, what went behind them is not parked.
                connection.execute(recovery.PROMOTE_ALL)
        return 0, begin_run(connection, is_new=is_alone)
    left_out = _leave_out_superseded(connection, unparked, are_wanted=superseded)
    states = [state.value for state in unparked]
    connection.execute(statements.UNPARK_ALL, {"states": states, "b_now": datetime.now(UTC)})
    connection.execute(statements.NOTHING_FREE_IS_NEXT)
    connection.execute(recovery.PROMOTE_ALL)
    return left_out, None


def begin_run(connection: Connection, *, is_new: bool) -> tuple[int, bool]:
    """Return the number of the run, and whether there are messages already.

    What one run was given belongs together; what two were given may replace each other. Workers that are
    there at the same time share one run, so with `is_new` false it is the current one.
    """
    run = int(read_meta(connection, _RUN) or 0)
    if is_new or run == 0:
        run += 1
        write_meta(connection, _RUN, str(run))
    return run, connection.execute(statements.LAST_POSITION).scalar_one() >= 0


def mark_all_read(connection: Connection, run: int) -> None:
    """Note that a run has read all that it was given."""
    if _unread_run(connection) == run:
        write_meta(connection, _UNREAD, "0")


def count_superseded(connection: Connection) -> dict[State, int]:
    """Count what a run that continues with the journal leaves out."""
    wanted = {"before": _unread_run(connection)}
    counted = dict([*connection.execute(statements.COUNT_SUPERSEDED, wanted)])
    return {state: counted.get(state.value, 0) for state in (State.PARKED, State.NOT_SENT)}


def _unread_run(connection: Connection) -> int:
    """Return the number of a run that replaced texts and did not read all it was given; 0 if there is none.

    Which of the messages of earlier runs it would have replaced too is not known.
    """
    return int(read_meta(connection, _UNREAD) or 0)


def _leave_out_superseded(connection: Connection, unparked: Sequence[State], *, are_wanted: bool) -> int:
    """Decide what becomes of texts that were replaced, and count those that are left out."""
    if are_wanted:
        connection.execute(statements.NOTHING_IS_SUPERSEDED)
        return 0
    if before := _unread_run(connection):
        connection.execute(statements.SUPERSEDE_EARLIER, {"b_before": before})
    counted = count_superseded(connection)
    return sum(counted[state] for state in unparked)


# --- entering


def enter(  # noqa: PLR0913 - by keyword
    connection: Connection,
    entries: Sequence[Entry],
    *,
    salt: bytes,
    run: int = 0,
    retry_failed: bool = False,
    superseded: Sequence[str] = (),
) -> list[EntryStatus]:
    """Enter what is new, and return the status of each, in the same order.

    Each has its fingerprint. `superseded` are the keys of messages of earlier runs that these replace.
    """
    if superseded:
        connection.execute(statements.SUPERSEDE, rows_of(superseded))
        # The run may have more to read.
        if _unread_run(connection) != run:
            write_meta(connection, _UNREAD, str(run))
    statuses, known = _look_up(connection, entries)
    if new := [entry for entry, status in zip(entries, statuses, strict=True) if status.is_new]:
        _insert(connection, new, salt=salt, run=run)
    _update_known(connection, entries, statuses, known)
    return _unpark(connection, statuses, retry_failed=retry_failed)


def enter_of_campaign(
    connection: Connection, entries: Sequence[Entry], campaign: str, *, salt: bytes, is_held: bool
) -> list[EntryStatus]:
    """Enter what is new of a campaign, and return the status of each, in the same order.

    What is known stays as it is. With `is_held`, what is new is parked.
    """
    statuses, known = _look_up(connection, entries)
    if new := [entry for entry, status in zip(entries, statuses, strict=True) if status.is_new]:
        _insert(connection, new, salt=salt, campaign=campaign, is_held=is_held)
    _update_known(connection, entries, statuses, known)
    return statuses


def _update_known(
    connection: Connection,
    entries: Sequence[Entry],
    statuses: Sequence[EntryStatus],
    known: Mapping[str, Any],
) -> None:
    """Note of messages that are known where their files are now, and their labels."""
    again = [
        (entry, known[entry.key])
        for entry, status in zip(entries, statuses, strict=True)
        if status.problem is None and entry.key in known
    ]
    if moved := [(entry.key, files_as_json(entry.files)) for entry, _ in again if entry.files]:
        # An earlier run's files may be gone.
        connection.execute(statements.MOVE_FILES, {"rows": moved})
    if labels := [(entry.key, entry.label) for entry, row in again if entry.label not in {None, row.label}]:
        connection.execute(statements.LABEL, {"rows": labels})


def enter_one(
    connection: Connection, entry: Entry, *, salt: bytes, run: int, retry_failed: bool = False
) -> EntryStatus:
    """Enter a message that is to be sent whatever its content was before, and return its status.

    What is known under its key stands. But files without a path went with the process that had them: then
    this content takes the place of what was certainly not sent. So it does with `retry_failed` where that
    failed: perhaps it failed for its content.
    """
    (status,) = enter(connection, [entry], salt=salt, run=run, retry_failed=retry_failed)
    open_states = {State.PARKED, State.WAITING, *([State.NOT_SENT] if retry_failed else [])}
    if status.problem is None or status.state not in open_states:
        return status
    known = connection.execute(statements.MESSAGE, {"key": entry.key}).one()
    problem: JournalMismatchError | InvalidInputError | None = status.problem
    if status.state is State.NOT_SENT or any(not file.path for file in files_of_json(known.files)):
        connection.execute(statements.REPLACE, _content_of(entry, salt))
        problem = None
    if status.state is not State.WAITING:
        reopen(connection, [entry.key])
    return evolve(status, state=State.WAITING, is_final=False, error=None, problem=problem)


def _content_of(entry: Entry, salt: bytes) -> dict[str, object]:
    return {
        "b_key": entry.key,
        "b_body": entry.body,
        "b_files": files_as_json(entry.files),
        "b_question": question_as_json(entry.question),
        "b_fingerprint": entry.fingerprint,
        "b_hash": body_hash(salt, entry.body),
        "b_label": entry.label,
    }


def look_up(connection: Connection, entries: Sequence[Entry]) -> list[EntryStatus]:
    """Return the status of each; of one that is not known, that it is new and waits."""
    return _look_up(connection, entries)[0]


def unpark(connection: Connection, keys: Sequence[str]) -> None:
    """Let those of these wait again that were parked."""
    found = connection.execute(statements.KNOWN, rows_of(keys)).all()
    if parked := [row.key for row in found if row.state == State.PARKED.value]:
        reopen(connection, parked)


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


def _look_up(connection: Connection, entries: Sequence[Entry]) -> tuple[list[EntryStatus], dict[str, Any]]:
    """Return the status that each will have, and the rows of those that are known, by their keys."""
    problems = [_what_is_wrong(entry) for entry in entries]
    # A key that cannot be stored cannot be looked up either.
    wanted = rows_of(entry.key for entry, problem in zip(entries, problems, strict=True) if not problem)
    known = {row.key: row for row in connection.execute(statements.KNOWN, wanted).all()}
    first: dict[str, Entry] = {}
    statuses = [
        EntryStatus(entry.key, entry.chat, None, problem=InvalidInputError(problem))
        if problem
        else _status(entry, known.get(entry.key), first)
        for entry, problem in zip(entries, problems, strict=True)
    ]
    return statuses, known


def _status(entry: Entry, row: Any, first: dict[str, Entry]) -> EntryStatus:
    """Return the status of one; the same key may come twice in one go, so the first of each is noted."""
    if row is not None:
        return status_of(row, _mismatch(row.fingerprint, entry))
    is_new = entry.key not in first
    problem = _mismatch(first.setdefault(entry.key, entry).fingerprint, entry)
    return EntryStatus(entry.key, entry.chat, State.WAITING, is_new=is_new, problem=problem)


def _mismatch(fingerprint: bytes | None, entry: Entry) -> JournalMismatchError | None:
    return None if fingerprint == entry.fingerprint else JournalMismatchError(_MISMATCH)


def _insert(  # noqa: PLR0913 - by keyword
    connection: Connection,
    new: Sequence[Entry],
    *,
    salt: bytes,
    run: int = 0,
    campaign: str | None = None,
    is_held: bool = False,
) -> None:
    last = connection.execute(statements.LAST_POSITION).scalar_one()
    recipient_of = recipients_of(connection, {entry.chat for entry in new})
    has_next = set(connection.execute(statements.WITH_NEXT, rows_of(set(recipient_of.values()))).scalars())
    rows, hashes = [], list[bytes]()
    for number, entry in enumerate(new):
        recipient = recipient_of[entry.chat]
        rows.append(
            (
                *(entry.key, entry.chat, entry.body),
                *(files_as_json(entry.files), question_as_json(entry.question)),
                *(1 + number * 2 * HASH_LENGTH, last + 1 + number),
                *(not is_held and recipient not in has_next, recipient, entry.label),
            )
        )
        hashes += [entry.fingerprint or b"", body_hash(salt, entry.body)]
        has_next.add(recipient)
    noted = {
        "rows": rows,
        "hashes": b"".join(hashes),
        "b_run": run,
        "b_now": datetime.now(UTC),
        "b_campaign": campaign,
        "b_is_final": is_held,
        "b_state": (State.PARKED if is_held else State.WAITING).value,
    }
    connection.execute(statements.INSERT, noted)


def _unpark(
    connection: Connection, statuses: Sequence[EntryStatus], *, retry_failed: bool
) -> list[EntryStatus]:
    """Let those wait again, in their old places, that were parked, or that are to be tried again."""
    states = {State.PARKED, State.NOT_SENT} if retry_failed else {State.PARKED}
    reopened = {one.key for one in statuses if one.state in states and one.problem is None}
    if not reopened:
        return [*statuses]
    reopen(connection, reopened)
    return [
        EntryStatus(one.key, one.chat, State.WAITING, attempts=one.attempts)
        if one.key in reopened and one.problem is None
        else one
        for one in statuses
    ]


def reopen(connection: Connection, keys: Iterable[str]) -> None:
    """Let messages wait again, in their old places."""
    rows = rows_of(keys)
    connection.execute(statements.REOPEN, {**rows, "b_now": datetime.now(UTC)})
    recipients = list(connection.execute(statements.RECIPIENTS_OF_KEYS, rows).scalars())
    connection.execute(statements.NO_LONGER_NEXT, rows_of(recipients))
    # The next message of the others is being sent: its successor is chosen when it ends.
    promote(connection, recipients)


def promote(connection: Connection, recipients: Iterable[str]) -> None:
    """Let the first open message go to each of these recipients that has no next one."""
    wanted = [*recipients]
    held = set(connection.execute(statements.WITH_NEXT, rows_of(wanted)).scalars())
    if free := [one for one in wanted if one not in held]:
        connection.execute(statements.PROMOTE, rows_of(free))


def _what_is_wrong(entry: Entry) -> str:
    for name, value, most in (("key", entry.key, LONGEST), ("chat", entry.chat, LONGEST)):
        if not value or not can_be_stored(value, most):
            return f"the {name} of a message in a journal must be text of 1 to {most} bytes"
    if entry.fingerprint is not None and len(entry.fingerprint) != HASH_LENGTH:
        return f"the fingerprint of a message must have {HASH_LENGTH} bytes"
    if entry.label is not None and not can_be_stored(entry.label, LONGEST):
        return f"the label of a message in a journal must be text of at most {LONGEST} bytes"
    if not can_be_stored(entry.body):
        return "the body has a character that cannot be stored: a NUL, or half of a surrogate pair"
    return ""


# --- the recipient of an address


def same_chats(connection: Connection, chats: Iterable[str]) -> list[tuple[str, ...]]:
    """Return what is known of these addresses: each time all that lead to one recipient."""
    known = _read(connection, map(plain_address, chats))
    groups = defaultdict[str, list[str]](list)
    for row in connection.execute(statements.ADDRESSES_OF, rows_of(set(known.values()))).all():
        groups[row.recipient].append(row.address)
    return [tuple(group) for group in groups.values()]


def earlier(connection: Connection, chats: Sequence[str], *, besides: int, present: int) -> list[EntryStatus]:
    """Return what runs before the present one, besides one, were given for these chats."""
    recipient_of = recipients_of(connection, chats)
    wanted = {**rows_of(set(recipient_of.values())), "own": besides, "present": present}
    found = defaultdict[str, list[Any]](list)
    for row in connection.execute(statements.EARLIER, wanted).all():
        found[row.recipient].append(row)
    return [
        EntryStatus(row.key, chat, State(row.state), run=row.run)
        for chat, recipient in recipient_of.items()
        for row in found.get(recipient, ())
    ]


def groups_with_messages(connection: Connection, groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return those groups of addresses at one of which there is a message: of others, nothing is kept."""
    chats = {address: set(_chats_at(plain_address(address))) for group in groups for address in group}
    wanted = rows_of(set[str]().union(*chats.values()))
    found = set(connection.execute(statements.CHATS_OF, wanted).scalars())
    return [group for group in groups if any(chats[address] & found for address in group)]


def learn(connection: Connection, groups: Iterable[Sequence[str]]) -> None:
    """Note that the addresses of each group lead to the same recipient.

    Messages that are begun are not interrupted. Of the others, the first to each recipient is the next.
    """
    wanted = [[plain_address(address) for address in group] for group in groups]
    before = _read(connection, {address for group in wanted for address in group})
    found = connection.execute(statements.ADDRESSES_OF, rows_of(before.values())).all()
    before |= {row.address: row.recipient for row in found}
    after = _joined(wanted, before)
    news = {address: recipient for address, recipient in after.items() if before.get(address) != recipient}
    if not news:
        return
    connection.execute(statements.FORGET_ADDRESSES, rows_of(news))
    connection.execute(statements.NOTE_ADDRESSES, {"rows": [*news.items()]})
    moved = {a: recipient for a, recipient in news.items() if before.get(a, a) != recipient}
    if moved:
        _move(connection, moved, {before.get(a, a) for a in moved} | set(moved.values()))


def recipients_of(connection: Connection, chats: Iterable[str]) -> dict[str, str]:
    """Return the recipient of each address: one address that stands for all that are the same."""
    plain = {chat: plain_address(chat) for chat in chats}
    known = _read(connection, set(plain.values()))
    return {chat: known.get(address, address) for chat, address in plain.items()}


def _read(connection: Connection, addresses: Iterable[str]) -> dict[str, str]:
    found = connection.execute(statements.RECIPIENTS_OF, rows_of(addresses)).all()
    return {row.address: row.recipient for row in found}


def _joined(groups: Iterable[Sequence[str]], before: Mapping[str, str]) -> dict[str, str]:
    """Return which recipient each address leads to then.

    An auxiliary id can have moved: alone, it makes no two recipients one.
    """
    after = dict(before)
    members = defaultdict[str, set[str]](set)
    for address, recipient in before.items():
        members[recipient].add(address)
    for group in groups:
        recipient = after.get(group[0], group[0])
        for address in group:
            known = after.get(address, address)
            is_certain = not address.startswith("aux/")
            with_it = members.pop(known, set()) if is_certain and known != recipient else set()
            for one in {address, *with_it}:
                members[known].discard(one)
                members[recipient].add(one)
                after[one] = recipient
    return after


def _move(connection: Connection, moved: Mapping[str, str], affected: Collection[str]) -> None:
    rows = [(chat, recipient) for address, recipient in moved.items() for chat in _chats_at(address)]
    if connection.execute(statements.IS_OPEN_IN, {"rows": rows}).first() is None:
        connection.execute(statements.MOVE, {"rows": rows})
        return
    connection.execute(statements.REVOKE_UNBEGUN, rows_of(affected))
    seen, apart = set[str](), list[str]()
    for key, chat, recipient in connection.execute(statements.BEGUN_OF, rows_of(affected)).all():
        its_recipient = moved.get(plain_address(chat), recipient)
        if its_recipient in seen:
            apart.append(key)
        seen.add(its_recipient)
    if apart:
        connection.execute(statements.SET_APART, rows_of(apart))
    connection.execute(statements.MOVE, {"rows": rows})
    promote(connection, affected)


def _chats_at(address: str) -> tuple[str, ...]:
    """Return what a message's chat can be whose address in the one form is this."""
    if not address.startswith(_CONVERSATIONS):
        return (address,)
    return address, USERS + address.removeprefix(_CONVERSATIONS)


# --- decisions of a person


def check_decision(decision: Decision, message_id: str | None) -> None:
    """Refuse a decision that is none, or cannot be stored.

    Raises:
        InvalidInputError: says which.
    """
    if decision.outcome not in _DECIDED_STATES:
        raise InvalidInputError("a decision is Outcome.DELIVERED or Outcome.NOT_SENT")
    if not _is_name(decision.by):
        raise InvalidInputError("a decision needs the name of the person who makes it")
    if decision.at.tzinfo is None:
        raise InvalidInputError("the moment of a decision must have a time zone")
    if message_id is None:
        return
    if decision.outcome is not Outcome.DELIVERED:
        raise InvalidInputError("only a message that was delivered has an id")
    if not _is_name(message_id):
        raise InvalidInputError("the id of a message must be text that is not blank")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and can_be_stored(value, LONGEST)


def decide(
    connection: Connection,
    claiming: statements.Claiming,
    key: str,
    decision: Decision,
    message_id: str | None,
) -> None:
    """Note a person's decision about a message, and unblock its chat; or the id that one was without.

    Raises:
        InvalidInputError: there is no such message, it is not in question, or the id is another one's.
        JournalInUseError: a worker is reconciling it.
    """
    if message_id is not None:
        _require_unclaimed_id(connection, key, message_id)
        added = {"b_key": key, "b_message_id": message_id}
        if connection.execute(statements.ADD_ID, added).rowcount:
            return
    _require_decidable(connection, key)
    noted = {
        "b_key": key,
        "b_state": _DECIDED_STATES[decision.outcome].value,
        "b_message_id": message_id,
        "b_decided": decision.outcome.value,
        "b_by": decision.by,
        "b_at": decision.at,
        "b_now": datetime.now(UTC),
    }
    if not connection.execute(claiming.decide[decision.outcome], noted).rowcount:
        raise JournalInUseError(_CLAIMED)
    promote(connection, connection.execute(statements.RECIPIENTS_OF_KEYS, rows_of([key])).scalars())


def _require_decidable(connection: Connection, key: str) -> None:
    found = connection.execute(statements.KNOWN, rows_of([key])).first()
    if found is None:
        raise InvalidInputError("The journal has no message with this key. Nothing was changed.")
    state = State(found.state)
    if state not in {State.UNKNOWN, State.SENDING}:
        raise InvalidInputError(
            f"This message is {state.value}, not unknown: there is nothing to decide. Nothing was changed."
        )


def _require_unclaimed_id(connection: Connection, key: str, message_id: str) -> None:
    taken = {"message_id": message_id, "besides": key}
    if connection.execute(statements.IS_CLAIMED_ID, taken).first():
        raise InvalidInputError(
            "The journal has another message with this message id. Nothing was changed: look again which of"
            " the two it is."
        )
