"""What one user has sent through one client: what was delivered, and what may have been."""

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import count
from secrets import token_hex
from typing import Final

from attrs import field, frozen

from healthmsg.addresses import ChatAddress
from healthmsg.attempts import Attempt
from healthmsg.errors import DeliveryUnknownError
from healthmsg.pipeline.exchange import Multipart
from healthmsg.pipeline.server_clock import ServerClock

_PROCESS: Final = token_hex(8)
_numbers: Final = count(1)
# A message's chat, and the hash of its text. No context manager: every call pays for it.
Departed = tuple[str, int]
# More than are sent while it is still open whether one of them was.
_MOST_KNOWN: Final = 20_000
# Any of them proves that a search finds what is there.
_MOST_CHATS: Final = 2_000


@frozen
class Delivered:
    """A message that is known to have been delivered."""

    chat: ChatAddress
    message_id: str
    is_body: Callable[[str], bool] = field(repr=False)


class Deliveries:
    """Remembers the ids of the last 20,000 messages, and of their texts only what tells them apart."""

    def __init__(self, clock: ServerClock) -> None:
        self.clock: ServerClock = clock
        self.me: str | None = None
        """The user's id, once somebody has asked for it."""
        self._known: set[str] = set()
        """Their ids."""
        self._order = deque[str]()
        """The same, the oldest first, and those that were forgotten since."""
        self._last_in = OrderedDict[str, tuple[str, int]]()
        """Of the chats that were written to last, the last message's id, and the hash of its text.

        With text and numbers only, it costs Python's garbage collector nothing.
        """
        self._on_their_way: dict[Departed, int] = {}
        """How many equal ones there are."""
        self._sender = (_PROCESS, next(_numbers))

    def delivered(self, chat: ChatAddress, message_id: str, body: str) -> None:
        """Note a message of which the service said that it accepted it."""
        self._known.add(message_id)
        self._order.append(message_id)
        address = chat.text
        self._last_in[address] = message_id, hash(body)
        self._last_in.move_to_end(address)
        if len(self._order) > _MOST_KNOWN:
            self._known.discard(self._order.popleft())
        if len(self._last_in) > _MOST_CHATS:
            self._last_in.popitem(last=False)

    def forget(self, message_id: str) -> None:
        """Forget a message, since whoever has sent it could not note that it was delivered."""
        self._known.discard(message_id)
        for chat in [chat for chat, last in self._last_in.items() if last[0] == message_id]:
            del self._last_in[chat]

    def claim(self, attempt: Attempt, message_id: str) -> bool:
        """Take a message that was found for the one that was attempted, unless it may be another's.

        Of an equal one that is on its way now, nobody knows the id yet.
        """
        if message_id in self._known or (attempt.chat.text, hash(attempt.body)) in self._on_their_way:
            return False
        self.delivered(attempt.chat, message_id, attempt.body)
        return True

    def sets_out(self, chat: ChatAddress, body: str) -> Departed:
        """Note that such a message is being sent, until `has_ended` is told the same."""
        departed = chat.text, hash(body)
        self._on_their_way[departed] = self._on_their_way.get(departed, 0) + 1
        return departed

    def has_ended(self, departed: Departed) -> None:
        """Note that the call with such a message is over."""
        others = self._on_their_way.pop(departed) - 1
        if others:
            self._on_their_way[departed] = others

    def is_claimed(self, message_id: str) -> bool:
        """Tell whether a message is known to be one that was delivered."""
        return message_id in self._known

    def known(self, chat: ChatAddress) -> Delivered | None:
        """Give a message that was delivered: the last one in that chat, or else in any."""
        its_chat = chat.text if chat.text in self._last_in else next(reversed(self._last_in), None)
        if its_chat is None:
            return None
        message_id, its_hash = self._last_in[its_chat]
        return Delivered(ChatAddress.of_text(its_chat), message_id, lambda body: hash(body) == its_hash)

    def note(
        self,
        error: DeliveryUnknownError,
        chat: ChatAddress,
        body: str,
        form: Multipart | None,
        began: float,
    ) -> None:
        """Keep with the error what is needed to find out; `began` is by the event loop's clock."""
        files = tuple((file.file_name, file.size) for file in form.files) if form is not None else ()
        error.attempt = Attempt(
            chat, body, self.clock.earliest(began), self.clock.latest(), files, self._sender
        )

    def can_find_out(self, attempt: Attempt) -> bool:
        """Tell whether this user may have sent it: that is not known of another process's."""
        process, _ = attempt.sender
        return process != _PROCESS or attempt.sender == self._sender
