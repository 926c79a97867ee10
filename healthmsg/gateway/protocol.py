"""What goes over one connection to the gateway, without the connection: frames, keeping alive, the budget.

Contract: "The gateway" [D, V]. Nothing here does I/O; times are seconds of any clock that goes on in suspend.
"""

import sys
from collections import deque
from collections.abc import Mapping
from typing import Final

import orjson
from attrs import define, field, frozen

from healthmsg.codec import structured
from healthmsg.errors import InvalidInputError
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject
from healthmsg.models import User
from healthmsg.structuring import MismatchError
from healthmsg.version import __version__

HANDSHAKE_TIME: Final = 5.0
"""Seconds until `authenticated`, as the vendor's adapter waits [V]; the gateway itself gives 10 [D]."""
PING_EVERY: Final = 30.0
"""Seconds [D]."""
PONG_TIME: Final = 10.0
"""Seconds [D]."""
EVENTS_A_MINUTE: Final = 250
"""What one access token may send in 60 seconds [D]."""
SUBSCRIPTIONS_A_MINUTE: Final = 200
"""Those among them that are for subscriptions: typing and presence have the rest."""
_MINUTE: Final = 60.0
_REFUSED: Final = frozenset({401, 403})
_OF_ONE_CHAT: Final = frozenset({304, 404})


@frozen
class Authenticated:
    """The gateway knows who is there. From now on events come."""

    user: User


@frozen
class Received:
    """A frame."""

    name: str
    data: JSONObject = field(repr=False)


@frozen
class Unreadable:
    """A frame that is none."""


@frozen
class Refused:
    """The token is not accepted [V]: connecting again with it is of no use."""


Outcome = Authenticated | Received | Unreadable | Refused


class Budget:
    """Counts what was sent in the last 60 seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sent: deque[float] = deque()

    def is_left(self, now: float) -> bool:
        """Return whether one more may be sent."""
        while self._sent and self._sent[0] <= now - _MINUTE:
            self._sent.popleft()
        return len(self._sent) < self._most

    def count(self, now: float) -> None:
        """Count one that is sent."""
        self._sent.append(now)


@define(eq=False)
class Protocol:
    """One connection's conversation. `budget` is of all connections with one token."""

    budget: Budget
    subscriptions: Budget
    _opened_at: float
    is_authenticated: bool = False
    had_error: bool = False
    """Whether the gateway sent an error that is about the connection, such as that of its limits."""
    _last_ping: float = field(init=False)
    _awaits_pong: bool = False
    _to_subscribe: dict[str, str] = field(factory=dict)
    """Group chats, each with the frame's name, in the order in which they were asked for."""

    def __attrs_post_init__(self) -> None:
        self._last_ping = self._opened_at

    # --- sending

    def handshake(self, token: str, now: float) -> str:
        """Return the first frame."""
        self.budget.count(now)
        properties = {
            "os": sys.platform,
            "browser": "healthmsg",
            "device": "healthmsg for Python",
            "version": __version__,
        }
        return _frame("handshake", {"token": token, "properties": properties})

    def about_chat(self, name: str, chat: ChatAddress, now: float) -> str | None:
        """Return a frame about a chat, such as `typing`; `None`: it is dropped."""
        key = "groupchat_id" if chat.kind.is_group else "conversation_id"
        return self._event(name, {key: chat.id}, now)

    def presence(self, status: str, now: float) -> str | None:
        """Return the frame that says whether the user is there; `None`: it is dropped."""
        return self._event("presence_update", {"status": status}, now)

    def _event(self, name: str, data: dict[str, str], now: float) -> str | None:
        if not self.is_authenticated or not self.budget.is_left(now):
            return None
        self.budget.count(now)
        return _frame(name, data)

    def subscribe(self, group: str, *, on: bool = True) -> None:
        """Have a group chat's messages come whole and at once, or no longer, as soon as the budget allows."""
        self._to_subscribe.pop(group, None)
        self._to_subscribe[group] = "groupchat_subscribe" if on else "groupchat_unsubscribe"

    def next_subscription(self, now: float) -> str | None:
        """Return the next frame that subscribes; `None`: there is none, or not yet."""
        if not self._to_subscribe or not self.is_authenticated:
            return None
        if not (self.budget.is_left(now) and self.subscriptions.is_left(now)):
            return None
        group = next(iter(self._to_subscribe))
        self.budget.count(now)
        self.subscriptions.count(now)
        return _frame(self._to_subscribe.pop(group), {"groupchat_id": group})

    # --- receiving

    def received(self, text: str | bytes) -> Outcome:
        """Take what came."""
        self._awaits_pong = False
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            return Unreadable()
        if type(frame) is not dict or type(name := frame.get("event")) is not str:
            return Unreadable()
        data = frame.get("data")
        if name == "authenticated" and not self.is_authenticated:
            return self._authenticated(data)
        if type(data) is not dict:
            return Unreadable() if data is not None else Received(name, {})
        if name == "error":
            code = data.get("code")
            if code in _REFUSED:
                return Refused()
            self.had_error = self.had_error or code not in _OF_ONE_CHAT
        return Received(name, data)

    def _authenticated(self, data: object) -> Outcome:
        try:
            user: User = structured(data.get("user") if isinstance(data, dict) else None, User)
        except (MismatchError, InvalidInputError):
            return Unreadable()
        self.is_authenticated = True
        return Authenticated(user)

    def pong(self) -> None:
        """Take a pong, or anything else that shows that the other side is there."""
        self._awaits_pong = False

    # --- keeping alive

    def what_is_wrong(self, now: float) -> str | None:
        """Return why the connection counts as lost; `None`: it does not."""
        if not self.is_authenticated and now >= self._opened_at + HANDSHAKE_TIME:
            return f"the gateway did not authenticate within {HANDSHAKE_TIME:.0f} seconds"
        if self._awaits_pong and now >= self._last_ping + PONG_TIME:
            return f"no pong came within {PONG_TIME:.0f} seconds"
        return None

    def is_ping_due(self, now: float) -> bool:
        """Return whether to send a ping now, and note that it is sent."""
        if now < self._last_ping + PING_EVERY:
            return False
        self._last_ping, self._awaits_pong = now, True
        return True


def _frame(name: str, data: Mapping[str, object]) -> str:
    return orjson.dumps({"event": name, "data": data}).decode()
