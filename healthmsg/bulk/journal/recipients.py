"""Which addresses lead to the same recipient: whose messages keep one order.

What is learnt is kept in the journal, for later runs and other workers. The key and the fingerprint of a
message do not depend on it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from healthmsg.bulk.journal import statements
from healthmsg.ids import USERS, ChatKind, plain_address

_CONVERSATIONS = f"{ChatKind.CONVERSATION.path}/"


def recipients_of(connection: Connection, chats: Iterable[str]) -> dict[str, str]:
    """Return who is behind each of these addresses: one address that stands for all of them."""
    plain = {chat: plain_address(chat) for chat in chats}
    known = _read(connection, set(plain.values()))
    return {chat: known.get(address, address) for chat, address in plain.items()}


def same_chats(connection: Connection, chats: Iterable[str]) -> list[tuple[str, ...]]:
    """Return what is known of these addresses: each time all that lead to one recipient."""
    known = _read(connection, map(plain_address, chats))
    groups = defaultdict[str, list[str]](list)
    for row in connection.execute(statements.ADDRESSES_OF, {"rows": _rows(set(known.values()))}).all():
        groups[row.recipient].append(row.address)
    return [tuple(group) for group in groups.values()]


def concerned(connection: Connection, groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return those groups of addresses at one of which there is a message: of others, nothing is kept."""
    chats = {address: set(_chats_at(plain_address(address))) for group in groups for address in group}
    rows = _rows(set[str]().union(*chats.values()))
    found = set(connection.execute(statements.CHATS_OF, {"rows": rows}).scalars())
    return [group for group in groups if any(chats[address] & found for address in group)]


def learn(connection: Connection, groups: Iterable[Sequence[str]]) -> None:
    """Note that the addresses of each group lead to the same recipient, in the transaction that has begun.

    What was begun by then is left to its end; of all else, the first message to each recipient is the next.
    """
    wanted = [[plain_address(address) for address in group] for group in groups]
    before = _read(connection, {address for group in wanted for address in group})
    found = connection.execute(statements.ADDRESSES_OF, {"rows": _rows(before.values())}).all()
    before |= {row.address: row.recipient for row in found}
    after = _joined(wanted, before)
    news = {address: recipient for address, recipient in after.items() if before.get(address) != recipient}
    if not news:
        return
    connection.execute(statements.FORGET_ADDRESSES, {"rows": _rows(news)})
    connection.execute(statements.NOTE_ADDRESSES, {"rows": [*news.items()]})
    moved = {a: recipient for a, recipient in news.items() if before.get(a, a) != recipient}
    if moved:
        _move(connection, moved, {before.get(a, a) for a in moved} | set(moved.values()))


def _read(connection: Connection, addresses: Iterable[str]) -> dict[str, str]:
    found = connection.execute(statements.RECIPIENTS_OF, {"rows": _rows(addresses)}).all()
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


def _move(connection: Connection, moved: Mapping[str, str], affected: Iterable[str]) -> None:
    rows = [(chat, recipient) for address, recipient in moved.items() for chat in _chats_at(address)]
    if connection.execute(statements.IS_OPEN_IN, {"rows": rows}).first() is None:
        connection.execute(statements.MOVE, {"rows": rows})
        return
    concerned = {"rows": _rows(affected)}
    connection.execute(statements.TAKE_BACK, concerned)
    seen, apart = set[str](), list[str]()
    for key, chat, recipient in connection.execute(statements.BEGUN_OF, concerned).all():
        its_recipient = moved.get(plain_address(chat), recipient)
        if its_recipient in seen:
            apart.append(key)
        seen.add(its_recipient)
    if apart:
        connection.execute(statements.SET_APART, {"rows": _rows(apart)})
    connection.execute(statements.MOVE, {"rows": rows})
    held = set(connection.execute(statements.WITH_NEXT, concerned).scalars())
    connection.execute(statements.PROMOTE, {"rows": _rows(set(affected) - held)})


def _chats_at(address: str) -> tuple[str, ...]:
    """Return what a message's chat can be whose address in the one form is this."""
    if not address.startswith(_CONVERSATIONS):
        return (address,)
    return address, USERS + address.removeprefix(_CONVERSATIONS)


def _rows(texts: Iterable[str]) -> list[list[str]]:
    return [[text] for text in texts]
