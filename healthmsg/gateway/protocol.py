"""The gateway's protocol over one connection, as a state machine that does no I/O and looks at no clock.

What came in goes into `received`, what is to go out comes from `next_frame`; `tick` has to be called at
`next_tick`, and may be called at any time. All times are seconds of the event loop's clock.
"""

import sys
from collections import deque
from enum import Enum
from typing import Final

import orjson
from attrs import define, field, frozen

from healthmsg.errors import InvalidInputError
from healthmsg.gateway.budget import Budget
from healthmsg.json_text import JSONObject, NotJSONError, parse_json
from healthmsg.models import User
from healthmsg.transport.websocket import Opcode
from healthmsg.version import __version__

# Seconds until `authenticated`, as the vendor's adapter has it [V]; the service's own limit is 10 [D].
_HANDSHAKE: Final = 5.0
# Seconds between two pings, and for the answer [D].
_PING: Final = 30.0
_PONG: Final = 10.0
# Seconds. What ticks later than this was kept from it: the answer may be waiting to be read.
_LATE: Final = 3.0
_LARGEST: Final = 1024 * 1024
"""Bytes. What is larger is not read."""
# Typing and presence wait for nothing: not for a connection that takes nothing, either.
_MOST_WAITING: Final = 8
_GROUP: Final = "groupchat_id"
_CHATS: Final = (_GROUP, "conversation_id")
_BAD_TOKEN: Final = "403"  # noqa: S105 - no password
_OF_ONE_CHAT: Final = frozenset({"304", "404"})
_PROPERTIES: Final = {
    "os": sys.platform,
    "browser": "healthmsg",
    "device": "healthmsg",
    "version": __version__,
}


class Cause(Enum):
    """Why a connection ended, as far as that matters for the next one."""

    LOST = "lost"
    LIMIT = "limit"
    TOKEN_REFUSED = "token refused"  # noqa: S105 - no password


@frozen
class Authenticated:
    """The service has accepted the token."""

    user: User = field(repr=False)
    """The token's user."""


@define
class Received:
    """Any other frame, the service's errors included."""

    name: str
    data: JSONObject = field(repr=False)


@frozen
class Unreadable:
    """A frame that cannot be read; `size` is in bytes."""

    size: int


@frozen
class Ended:
    """The connection is over. `reason` has nothing private in it."""

    reason: str
    cause: Cause = Cause.LOST
    is_open: bool = False
    """Whether the other side may still listen, and is owed a CLOSE."""


Happening = Authenticated | Received | Unreadable | Ended


class GatewayProtocol:
    """One connection, from its handshake to its end. It asks to be driven; see the module."""

    def __init__(self, token: str, *, budget: Budget, now: float) -> None:
        self._budget = budget
        self._outgoing: deque[bytes] = deque()
        self._pong: bytes | None = None
        self._is_ping_due = False
        self._subscriptions: dict[str, bool] = {}
        """Groups whose subscription is to change. As many as there are groups at the most."""
        self.is_live: bool = False
        """Whether the service has accepted the token."""
        self._last_is_error = False
        self._ticked_at = now
        self._handshake_due = now + _HANDSHAKE
        self._next_ping = now + _PING
        self._is_heard = True
        """Whether anything came since the last ping; that the answer did is not asked."""
        self._pong_due: float | None = None
        budget.note_handshake(now)
        self._outgoing.append(_frame("handshake", {"token": token, "properties": _PROPERTIES}))

    def received(self, opcode: Opcode, data: bytes) -> Happening | None:
        """Take in a frame, and return what it means to the rest of the program, if anything."""
        self._is_heard = True
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            return self._read(data)
        if opcode is Opcode.PING:
            self._pong = data  # the last one counts, so that a flood of them needs no room
        elif opcode is Opcode.CLOSE:
            code = int.from_bytes(data[:2], "big")
            return self.ended(f"the service closed the connection with code {code}", is_open=True)
        return None

    def ended(self, reason: str, *, is_open: bool = False) -> Ended:
        """Return why the connection ended, when it is the other side that ended it.

        The code of a limit error is not known: the service says an error, and disconnects [D]. So each error
        that was the last thing said counts as one [A].
        """
        if self._last_is_error:
            return Ended(f"{reason}, after an error", Cause.LIMIT, is_open)
        return Ended(reason, is_open=is_open)

    def tick(self, now: float) -> Ended | None:
        """Let time pass; return why the connection is to be ended, if it is."""
        lateness, self._ticked_at = now - self._ticked_at, now
        if lateness > _LATE:
            self._forgive(lateness)
        if not self.is_live and now >= self._handshake_due:
            return Ended("the service did not answer the handshake in time", is_open=True)
        if self._pong_due is not None and now >= self._pong_due:
            if not self._is_heard:
                return Ended("the service is silent")
            self._pong_due = None
        if now >= self._next_ping:
            self._is_ping_due, self._is_heard = True, False
            self._pong_due, self._next_ping = now + _PONG, now + _PING
        return None

    def next_tick(self) -> float:
        """Return when `tick` is to be called at the latest."""
        due = self._next_ping
        if self._pong_due is not None:
            due = min(due, self._pong_due)
        return due if self.is_live else min(due, self._handshake_due)

    def next_frame(self, now: float) -> tuple[Opcode, bytes] | None:
        """Return the next frame to send; `None` if none may be sent now."""
        if self._pong is not None:
            data, self._pong = self._pong, None
            return Opcode.PONG, data
        if self._is_ping_due:
            self._is_ping_due = False
            return Opcode.PING, b""
        if self._outgoing:
            return Opcode.TEXT, self._outgoing.popleft()
        if self._subscriptions and self._budget.take_subscription(now):
            group_id = next(iter(self._subscriptions))
            name = "groupchat_subscribe" if self._subscriptions.pop(group_id) else "groupchat_unsubscribe"
            return Opcode.TEXT, _frame(name, {_GROUP: group_id})
        return None

    def subscribe(self, group_id: str, *, wanted: bool = True) -> None:
        """Ask for a group chat's whole messages, or for no more of them, when the budget allows it."""
        if self.is_live:
            self._subscriptions.pop(group_id, None)
            self._subscriptions[group_id] = wanted

    def send_now(self, name: str, data: JSONObject, now: float) -> bool:
        """Send what is of use at once or not at all; return False if it was dropped."""
        if not self.is_live or len(self._outgoing) >= _MOST_WAITING or not self._budget.take(now):
            return False
        self._outgoing.append(_frame(name, data))
        return True

    def _forgive(self, seconds: float) -> None:
        """Let the time in which the event loop was blocked not count against the other side."""
        self._handshake_due += seconds
        if self._pong_due is not None:
            self._pong_due += seconds

    def _read(self, data: bytes) -> Happening | None:
        if len(data) > _LARGEST:
            return self._unreadable(len(data))
        try:
            document = parse_json(data)
        except NotJSONError:
            return self._unreadable(len(data))
        document = document if isinstance(document, dict) else {}
        name, values = document.get("event"), document.get("data")
        values = {} if values is None else values
        if not isinstance(name, str) or not isinstance(values, dict):
            return self._unreadable(len(data))
        self._last_is_error = name == "error"
        if name == "error":
            return self._error(values)
        if name == "authenticated" and not self.is_live:
            return self._authenticated(values)
        return Received(name, values) if self.is_live else None

    def _unreadable(self, size: int) -> Unreadable | None:
        self._last_is_error = False
        return Unreadable(size) if self.is_live else None

    def _error(self, values: JSONObject) -> Happening | None:
        code = values.get("code")
        code = str(code) if isinstance(code, str | int) else ""  # what is nested deeply has no text
        concerns_chat = any(values.get(name) for name in _CHATS)
        if code == _BAD_TOKEN and not concerns_chat:
            return Ended("the service refused the token", Cause.TOKEN_REFUSED, is_open=True)
        if concerns_chat or code in _OF_ONE_CHAT:
            self._last_is_error = False
        return Received("error", values) if self.is_live else None

    def _authenticated(self, values: JSONObject) -> Happening:
        user = values.get("user")
        try:
            found = User.from_dict(user) if isinstance(user, dict) else None
        except InvalidInputError:
            found = None
        if found is None:
            return Ended("the service did not say whose token it is", is_open=True)
        self.is_live = True
        return Authenticated(found)


def _frame(name: str, data: JSONObject) -> bytes:
    return orjson.dumps({"event": name, "data": data})
