"""What one user has sent through one client: what was delivered, and what may have been."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import field, frozen

from healthmsg.clock import ServerClock
from healthmsg.delivery.aliases import Aliases
from healthmsg.errors import DeliveryUnknownError
from healthmsg.ids import ChatAddress
from healthmsg.pipeline.request import Multipart, Request

if TYPE_CHECKING:
    from healthmsg.delivery.proof import Attempt, Samples
    from healthmsg.delivery.rewriting import Rewritings

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_AUX: Final = "aux/"
_PROCESS: Final = token_hex(8)
_numbers: Final = count(1)
Files = tuple[tuple[str, int | None], ...]
# More than are sent while it is still open whether one of them was.
_MOST_KNOWN: Final = 20_000
# Any of them proves that a search finds what is there.
_MOST_CHATS: Final = 2_000
# From before an attempt and from after it, the texts of so many are known.
_MOST_TEXTS: Final = 64


@frozen
class Delivered:
    """A message that is known to have been delivered, and when its call was under way by our clock."""

    chat: ChatAddress
    message_id: str
    departed_at: datetime
    answered_at: datetime
    is_body: Callable[[str], bool] = field(repr=False)
    body: str | None = field(default=None, repr=False)
    """`None`: only `is_body` is left of it."""
    files: Files = field(default=(), repr=False)


class Deliveries:
    """Remembers the ids of the last 20,000 messages, and the texts of the last 64; of others only a hash."""

    def __init__(self, clock: ServerClock, aliases: Aliases | None = None) -> None:
        self.clock: ServerClock = clock
        self._aliases = aliases or Aliases()
        self.me: str | None = None
        """The user's id, once it was asked for."""
        self._sender = (_PROCESS, next(_numbers))

    # Made when they are first used: most users of a client only read.

    @cached_property
    def _known(self) -> set[str]:
        """Their ids."""
        return set()

    @cached_property
    def _order(self) -> deque[str]:
        """The same, the oldest first, and those that were forgotten since."""
        return deque()

    @cached_property
    def _last_in(self) -> OrderedDict[str, tuple[str, int, float, float]]:
        """Of the chats that were written to last, the last message's id, hash, departure and answer.

        With text and numbers only, it costs Python's garbage collector nothing.
        """
        return OrderedDict()

    @cached_property
    def _last(self) -> deque[tuple[str, str, str, Files, float, float]]:
        return deque(maxlen=_MOST_TEXTS)

    @cached_property
    def _on_their_way(self) -> dict[int, dict[str, int]]:
        """How many equal ones there are: by the hash of the text, and then by the chat's address."""
        return {}

    @cached_property
    def _found(self) -> OrderedDict[int, str]:
        """What was found to be the message of an attempt, by the attempt's hash."""
        return OrderedDict()

    @cached_property
    def _sendings(self) -> OrderedDict[int, int]:
        """Which message of which journal an attempt was for, each as a hash."""
        return OrderedDict()

    @cached_property
    def _found_as(self) -> OrderedDict[str, int]:
        """The same of what was found, by its id."""
        return OrderedDict()

    @cached_property
    def samples(self) -> "Samples":
        """What is known of the service's stamps."""
        from healthmsg.delivery.proof import Samples  # noqa: PLC0415 - only what is unknown needs a proof

        return Samples()

    @cached_property
    def rewritings(self) -> "Rewritings":
        """What is known of how the service keeps texts and files."""
        from healthmsg.delivery.rewriting import Rewritings  # noqa: PLC0415 - as in samples

        return Rewritings()

    def delivered(self, chat: ChatAddress, message_id: str, body: str, files: Files, call: Request) -> None:
        """Note a message of which the service said that it accepted it, and the call that it was sent by."""
        self.know(message_id)
        address, last_in, current = chat.text, self._last_in, call.current
        departed_at, answered_at = current.departed_at, current.answered_at
        last_in[address] = message_id, hash(body), departed_at, answered_at
        last_in.move_to_end(address)
        self._last.append((address, message_id, body, files, departed_at, answered_at))
        if len(last_in) > _MOST_CHATS:
            last_in.popitem(last=False)

    def forget(self, message_id: str) -> None:
        """Forget a message, since it could not be noted in the journal that it was delivered."""
        self._known.discard(message_id)
        for attempt in [attempt for attempt, found in self._found.items() if found == message_id]:
            del self._found[attempt]
        self._found_as.pop(message_id, None)
        for chat in [chat for chat, last in self._last_in.items() if last[0] == message_id]:
            del self._last_in[chat]
        for one in [one for one in self._last if one[1] == message_id]:
            self._last.remove(one)

    def claim(self, attempt: "Attempt", message_id: str) -> bool:
        """Claim a message that was found as the one that was attempted, unless it may be another's.

        Of an equal one that is on its way now, be it to another address of the same chat, the id is not known
        yet. What was found for the same attempt, or for the same message of a journal, stays its own.
        """
        its_hash = hash(attempt)
        if (found := self._found.get(its_hash)) is not None:
            return found == message_id
        sending = self._sendings.get(its_hash)
        if sending is not None and self._found_as.get(message_id) == sending:
            return True
        if message_id in self._known or any(same is not False for same in self._equal_under_way(attempt)):
            return False
        self.know(message_id)
        _keep(self._found, its_hash, message_id)
        if sending is not None:
            _keep(self._found_as, message_id, sending)
        return True

    def is_for(self, attempt: "Attempt", journal: bytes, key: str) -> None:
        """Note which message of which journal an attempt is for.

        The error of one run and the journal of the next have attempts of their own for one call; `reconcile`
        may be called between the two.
        """
        _keep(self._sendings, hash(attempt), hash((journal, key, attempt.body)))

    def found_for(self, attempt: "Attempt") -> str | None:
        """Return the id of the message that was found to be this attempt's, if it was looked for before."""
        return self._found.get(hash(attempt))

    def has_equal_under_way(self, attempt: "Attempt") -> bool:
        """Return whether an equal text is on its way to an address that may lead to the same chat."""
        return None in self._equal_under_way(attempt)

    def _equal_under_way(self, attempt: "Attempt") -> list[bool | None]:
        """Return, for each address with an equal text on its way, whether it leads to the same chat."""
        chat = attempt.chat.text
        return [self._are_same(chat, other) for other in self._on_their_way.get(hash(attempt.body), ())]

    def _are_same(self, one: str, other: str) -> bool | None:
        same = self._aliases.are_same(one, other)
        # A user has one auxiliary id of an integrator's at most [A].
        return False if same is None and one.startswith(_AUX) and other.startswith(_AUX) else same

    def track(self, chat: ChatAddress, body: str) -> int:
        """Note that such a message is being sent, and return its text's hash, which `untrack` needs.

        Tracebacks show it, so the address is not in it: that may be an auxiliary id. A context manager would
        cost every call more.
        """
        address, its_hash = chat.text, hash(body)
        there = self._on_their_way.get(its_hash)
        if there is None:
            self._on_their_way[its_hash] = {address: 1}
        else:
            there[address] = there.get(address, 0) + 1
        return its_hash

    def untrack(self, chat: ChatAddress, its_hash: int) -> None:
        """Note that the call with such a message is over."""
        address, there = chat.text, self._on_their_way[its_hash]
        if there[address] > 1:
            there[address] -= 1
            return
        del there[address]
        if not there:
            del self._on_their_way[its_hash]

    def is_claimed(self, message_id: str) -> bool:
        """Return whether a message is known to be one that was delivered."""
        return message_id in self._known

    def witnesses(self, attempt: "Attempt") -> Sequence[Delivered]:
        """Return what can prove a search: the newest, the last before the attempt, and the chat's last."""
        found = dict[str, Delivered]()
        if self._last:
            newest = self._delivered(*self._last[-1])
            found[newest.message_id] = newest
        for one in reversed(self._last):
            if self.clock.moment(one[5]) <= attempt.departed_at:
                found.setdefault(one[1], self._delivered(*one))
                break
        chat = attempt.chat.text
        its_chat = chat if chat in self._last_in else next(reversed(self._last_in), None)
        if its_chat is not None:
            message_id, its_hash, departed_at, answered_at = self._last_in[its_chat]
            last = Delivered(
                ChatAddress.of_text(its_chat),
                message_id,
                self.clock.moment(departed_at),
                self.clock.moment(answered_at),
                lambda body: hash(body) == its_hash,
            )
            found.setdefault(message_id, last)
        return tuple(found.values())

    def text_of(self, message_id: str) -> tuple[str, Files] | None:
        """Return what a message said, if it is one of the last."""
        return next(((one[2], one[3]) for one in self._last if one[1] == message_id), None)

    def note(self, error: DeliveryUnknownError, chat: ChatAddress, body: str, call: Request) -> None:
        """Attach to the error the attempt that `reconcile` needs."""
        from healthmsg.delivery.proof import Attempt  # noqa: PLC0415 - as in samples

        departed_at, clock = call.current.departed_at, self.clock
        error.attempt = Attempt(
            chat,
            body,
            clock.moment(departed_at),
            clock.moment(),
            files_of(call),
            self._sender,
            clock.date_ahead(),
        )

    def is_of_this_process(self, attempt: "Attempt") -> bool:
        """Return whether the attempt was made by this process, so that its moments are by our clock."""
        return attempt.sender[0] == _PROCESS

    def may_reconcile(self, attempt: "Attempt") -> bool:
        """Return whether this user may have sent it: that is not known of another process's."""
        return not self.is_of_this_process(attempt) or attempt.sender == self._sender

    def know(self, message_id: str) -> None:
        """Note that a message is one that was delivered, whatever it is."""
        order = self._order
        self._known.add(message_id)
        order.append(message_id)
        if len(order) > _MOST_KNOWN:
            self._known.discard(order.popleft())

    def _delivered(  # noqa: PLR0917, PLR0913 - as it is kept
        self,
        chat: str,
        message_id: str,
        body: str,
        files: Files,
        departed_at: float,
        answered_at: float,
    ) -> Delivered:
        moments = self.clock.moment(departed_at), self.clock.moment(answered_at)
        return Delivered(ChatAddress.of_text(chat), message_id, *moments, body.__eq__, body, files)


def _keep(kept: "OrderedDict[_Key, _Value]", key: _Key, value: _Value) -> None:
    kept[key] = value
    if len(kept) > _MOST_KNOWN:
        kept.popitem(last=False)


def files_of(call: Request) -> Files:
    """Return the names and sizes of a call's files."""
    form = call.body
    return tuple((file.file_name, file.size) for file in form.files) if isinstance(form, Multipart) else ()
