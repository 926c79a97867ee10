"""Which addresses lead to the same chat, as far as a client has seen it.

One patient has several addresses: `conversations/…` with the id of the conversation or, as well, with that of
the user [V], `users/…` in bulk sending, and `aux/conversations/…`. That `users/u` and `conversations/u` are
one is known beforehand. All else is learnt from what the client reads, starts and invites. What was seen last
counts, since an auxiliary id can move to another user [D].

It decides in which order messages go out, and which of them may be taken for one another. It never decides
where a message is sent: always to the address that was given.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final

from healthmsg.ids import USERS, ChatKind, plain_address
from healthmsg.models import ConversationInfo, GroupChatInfo

_CONVERSATIONS: Final = f"{ChatKind.CONVERSATION.path}/"
_GROUP_CHATS: Final = f"{ChatKind.GROUP_CHAT.path}/"
_AUX_CONVERSATIONS: Final = f"{ChatKind.AUX_CONVERSATION.path}/"
_AUX_GROUP_CHATS: Final = f"{ChatKind.AUX_GROUP_CHAT.path}/"
_OF_GROUPS: Final = (_GROUP_CHATS, _AUX_GROUP_CHATS)
# About 20,000 people with three addresses each.
_MOST_ADDRESSES: Final = 60_000

# The id of the user, that of the conversation, and all addresses: text costs the garbage collector nothing.
_Chat = tuple[str | None, str | None, tuple[str, ...]]
_UNKNOWN: Final[_Chat] = (None, None, ())
OnLearnt = Callable[[Sequence[str]], object]


class Aliases:
    """Knows the last 20,000 chats of which it has seen more than one address.

    Addresses are text, as `ChatAddress.text` or a recipient of bulk sending has them.
    """

    def __init__(self) -> None:
        self._made = 0
        self._listeners: list[OnLearnt] = []

    # Made when they are first used: most users of a client learn of no other address.

    @cached_property
    def _chat_of(self) -> dict[str, int]:
        """The number of the chat that an address leads to."""
        return {}

    @cached_property
    def _chats(self) -> OrderedDict[int, _Chat]:
        """The one that was looked at last comes last."""
        return OrderedDict()

    @cached_property
    def _shared(self) -> OrderedDict[str, None]:
        """Auxiliary ids of more than one group chat: it is not known where they lead [D]."""
        return OrderedDict()

    # --- asking

    def addresses_of(self, address: str) -> tuple[str, ...]:
        """Return every address that is known to lead to the same chat, this one included."""
        plain = plain_address(address)
        number = self._chat_of.get(plain)
        if number is None:
            return (plain,)
        self._chats.move_to_end(number)
        return self._chats[number][2]

    def are_same(self, one: str, other: str) -> bool | None:
        """Return whether two addresses lead to the same chat: `None` if that is not known.

        Two conversations differ when their users do, or their ids; that there is one conversation with a
        user at most is assumed [A].
        """
        one, other = plain_address(one), plain_address(other)
        if one == other:
            return True
        if one.startswith(_OF_GROUPS) != other.startswith(_OF_GROUPS):
            return False
        number, another = self._chat_of.get(one), self._chat_of.get(other)
        if number is not None and number == another:
            return True
        if one.startswith(_GROUP_CHATS) and other.startswith(_GROUP_CHATS):
            return False
        first, second = self._chats.get(number or 0, _UNKNOWN), self._chats.get(another or 0, _UNKNOWN)
        is_different = any(a and b and a != b for a, b in zip(first[:2], second[:2], strict=True))
        if is_different or _has_all(first, other) or _has_all(second, one):
            return False
        return None

    def may_be_started(self, address: str) -> bool:
        """Return whether this may be the conversation with some user that is just being started."""
        user, conversation, _ = self._chats.get(self._chat_of.get(address, 0), _UNKNOWN)
        return user is None and (address.startswith(_CONVERSATIONS) or conversation is not None)

    def is_still_to_start(self, address: str) -> bool:
        """Return whether it is a user without a known conversation."""
        if not address.startswith(USERS):
            return False
        number = self._chat_of.get(plain_address(address), 0)
        return self._chats.get(number, _UNKNOWN)[1] is None

    def known_groups(self, addresses: Iterable[str]) -> list[tuple[str, ...]]:
        """Return what is known of these addresses: each time all that lead to one chat."""
        numbers = {self._chat_of.get(plain_address(address)) for address in addresses}
        return [self._chats[number][2] for number in numbers if number is not None]

    # --- listening

    def listen(self, on_learnt: OnLearnt) -> None:
        """Call a function with all addresses of a chat whenever a new one was learnt."""
        self._listeners.append(on_learnt)

    def stop_listening(self, on_learnt: OnLearnt) -> None:
        """Stop calling it."""
        self._listeners.remove(on_learnt)

    # --- learning

    def learn_conversation(
        self, *, conversation: str | None = None, user: str | None = None, aux_id: str | None = None
    ) -> None:
        """Note that these belong together, as the service has just said; at least two of the three."""
        addresses = [_CONVERSATIONS + found for found in (user, conversation) if found]
        if aux_id:
            addresses.append(_AUX_CONVERSATIONS + aux_id)
        self._learn(addresses, user, conversation)

    def learn_user_of_aux_id(self, aux_id: str | None, user: str, *, is_assigned: bool = False) -> None:
        """Note who has an auxiliary id, if any; assigned just now, it is no other user's any more [D]."""
        if is_assigned and aux_id:
            self.forget_user_of_aux_id(aux_id)
        self.learn_conversation(user=user, aux_id=aux_id)

    def forget_user_of_aux_id(self, aux_id: str) -> None:
        """Forget who had an auxiliary id: another user has it now."""
        self._detach(_AUX_CONVERSATIONS + aux_id)

    def learn_group_chat(self, group_chat: str, aux_id: str, *, may_be_shared: bool = False) -> None:
        """Note that a group chat has an auxiliary id; of one that several may have, nothing is known."""
        group, aux = _GROUP_CHATS + group_chat, _AUX_GROUP_CHATS + aux_id
        if aux in self._shared:
            return
        known = self._chats.get(self._chat_of.get(aux, 0), _UNKNOWN)[2]
        if may_be_shared or (known and group not in known):
            self._detach(aux)
            self._shared[aux] = None
            if len(self._shared) > _MOST_ADDRESSES:
                self._shared.popitem(last=False)
            return
        self._learn([group, aux], None, None)

    def learn_info(
        self, info: ConversationInfo | GroupChatInfo, asked: str | None = None, me: str | None = None
    ) -> None:
        """Note what the service says of a chat.

        `asked` is the address at which it was asked for, `me` the id of the user who asked: of two members,
        the other one is the other side.
        """
        if isinstance(info, GroupChatInfo):
            if info.aux_id:
                self.learn_group_chat(info.id, info.aux_id)
            if asked is not None and asked.startswith(_AUX_GROUP_CHATS):
                self.learn_group_chat(info.id, asked.removeprefix(_AUX_GROUP_CHATS))
            return
        user = _other_side(info, me)
        if asked is not None and asked.startswith(_AUX_CONVERSATIONS):
            self.learn_conversation(conversation=info.id, aux_id=asked.removeprefix(_AUX_CONVERSATIONS))
        elif asked is not None and user is None and asked != _CONVERSATIONS + info.id:
            user = plain_address(asked).removeprefix(_CONVERSATIONS)
        self.learn_conversation(conversation=info.id, user=user, aux_id=info.aux_id)

    def learn_same(self, addresses: Iterable[str]) -> None:
        """Note that addresses lead to one chat, without knowing what their ids stand for."""
        self._learn([plain_address(address) for address in addresses], None, None)

    def _learn(self, addresses: Sequence[str], user: str | None, conversation: str | None) -> None:
        wanted = list(dict.fromkeys(addresses))
        if len(wanted) < 2 and not (user and conversation):  # noqa: PLR2004 - it takes two to be the same
            return
        number = self._number_for(wanted, user, conversation)
        known = self._chats.get(number, _UNKNOWN)
        user, conversation = user or known[0], conversation or known[1]
        found = dict.fromkeys(known[2])
        for address in wanted:
            its_conversation, its_addresses = self._merged(address, number, conversation)
            conversation = conversation or its_conversation
            found |= dict.fromkeys(its_addresses)
        self._put(number, (user, conversation, _in_order(found, user)))
        if len(found) > len(known[2]):
            for tell in [*self._listeners]:
                tell(self._chats[number][2])
        self._forget_the_oldest(number)

    def _number_for(self, wanted: Sequence[str], user: str | None, conversation: str | None) -> int:
        """Return the chat that is meant: that of the user, or else one that may be it."""
        fitting = list[tuple[int, int]]()
        for address in wanted:
            number = self._chat_of.get(address)
            if number is None:
                continue
            its_user, its_conversation, _ = self._chats[number]
            if user is not None and its_user == user:
                return number
            is_another = bool(user and its_user) or bool(
                conversation and its_conversation and its_conversation != conversation
            )
            if not is_another:
                # Rather one whose user is known.
                fitting.append((its_user is None, number))
        if fitting:
            return min(fitting, key=lambda one: one[0])[1]
        self._made += 1
        return self._made

    def _merged(
        self, address: str, number: int, conversation: str | None
    ) -> tuple[str | None, tuple[str, ...]]:
        """Move an address to a chat, and with it its former chat unless that is another one."""
        before = self._chat_of.get(address)
        if before is None or before == number:
            return None, (address,)
        its_user, its_conversation, addresses = self._chats[before]
        if its_user is not None or (conversation and its_conversation and its_conversation != conversation):
            self._detach(address)
            return None, (address,)
        del self._chats[before]
        self._chat_of |= dict.fromkeys(addresses, number)
        return its_conversation, addresses

    def _detach(self, address: str) -> None:
        """Forget what is known of one address."""
        number = self._chat_of.pop(address, None)
        if number is None:
            return
        user, conversation, addresses = self._chats[number]
        left = tuple(one for one in addresses if one != address)
        if conversation is not None and address == _CONVERSATIONS + conversation:
            conversation = None
        if left:
            self._put(number, (user, conversation, left))
        else:
            del self._chats[number]

    def _put(self, number: int, chat: _Chat) -> None:
        for address in chat[2]:
            self._chat_of[address] = number
        self._chats[number] = chat
        self._chats.move_to_end(number)

    def _forget_the_oldest(self, besides: int) -> None:
        while len(self._chat_of) > _MOST_ADDRESSES and next(iter(self._chats)) != besides:
            _, (_, _, addresses) = self._chats.popitem(last=False)
            for address in addresses:
                del self._chat_of[address]


def _in_order(addresses: Iterable[str], user: str | None) -> tuple[str, ...]:
    """Put the one that stands for all first: the user's, or else one without an auxiliary id."""
    its_own = None if user is None else _CONVERSATIONS + user
    return tuple(sorted(addresses, key=lambda one: (one != its_own, one.startswith("aux/"), one)))


def _other_side(info: ConversationInfo, me: str | None) -> str | None:
    if info.user is not None:
        return info.user.id
    others = [member.id for member in info.members if member.id != me]
    return others[0] if me is not None and len(others) == 1 else None


def _has_all(chat: _Chat, other: str) -> bool:
    """Return whether another address without an auxiliary id would be known if it led to this chat."""
    user, conversation, _ = chat
    return user is not None and conversation is not None and other.startswith(_CONVERSATIONS)
