"""Whether the list of chats may be believed when it says that nothing has happened in a chat."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

import orjson
from attrs import field, frozen

from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import ConversationInfo, GroupChatInfo

_ENOUGH: Final = 20
# A whole number of CPython has 30 bits in each of its parts.
_SHORT: Final = 2**60


@frozen
class Listed:
    """What the list of chats says of one."""

    key: str
    hint: str
    """Changes when something has changed that the list shows [A]."""
    user_id: str | None = None
    """Of a conversation: the other side."""
    members: tuple[str, ...] | None = None
    """Of a group chat: the ids of its members, sorted; `None`: the list does not say."""
    closed: bool = False
    order: float = field(default=0.0, eq=False)
    """When it was last active, as far as the list says so."""


def listed(info: ConversationInfo | GroupChatInfo) -> Listed:
    """Return what is compared of a chat that was listed."""
    is_group = isinstance(info, GroupChatInfo)
    kind = ChatKind.GROUP_CHAT if is_group else ChatKind.CONVERSATION
    members = tuple(sorted(member.id for member in info.members))
    user = None if isinstance(info, GroupChatInfo) or info.user is None else info.user.id
    shown = (
        info.updated_at,
        info.unread,
        info.subject,
        info.closed,
        members,
        _without_links(info.extra),
    )
    # `default` writes what JSON has not; it is compared, never read.
    digest = blake2b(orjson.dumps(shown, default=str, option=orjson.OPT_SORT_KEYS), digest_size=8)
    return Listed(
        ChatAddress(kind, info.id).text,
        digest.hexdigest(),
        user,
        members if is_group and members else None,
        bool(info.closed),
        info.updated_at.timestamp() if info.updated_at else 0.0,
    )


def short(hint: str | None) -> int | None:
    """Return what stands for a hint within this process, in a third of its memory."""
    return None if hint is None else hash(hint) % _SHORT


def all_short(known: Mapping[str, str | None]) -> dict[str, int | None]:
    """Return the same of the hints of chats."""
    return {key: short(hint) for key, hint in known.items()}


def _without_links(value: object) -> object:
    """Leave out links: some are signed for each answer."""
    if isinstance(value, Mapping):
        return {name: _without_links(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_without_links(one) for one in value]
    return None if isinstance(value, str) and value.startswith(("http://", "https://")) else value


class HintTrust:
    """Counts what readings say of hints.

    At first a hint may only make a chat be read earlier. After 20 chats in which something was missed,
    and whose hint had changed each time, chats whose hint has not changed are left out. One in which
    something was missed all the same ends that for good.
    """

    def __init__(self) -> None:
        self.confirmations: int = 0
        self.lies: int = 0

    @property
    def is_given(self) -> bool:
        """Whether chats with an unchanged hint need not be read."""
        return not self.lies and self.confirmations >= _ENOUGH

    def missed(self, *, had_changed: bool) -> bool:
        """Note that something was missed in a chat; return whether that has just ended the trust."""
        if had_changed:
            self.confirmations += 1
            return False
        was_given = self.is_given
        self.lies += 1
        return was_given
