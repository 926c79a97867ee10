"""How many events may be sent: the service ends the connection of a client that sends more."""

from collections import deque
from typing import Final

# Documented, per access token: 250 events in 60 seconds [D].
_EVENTS: Final = 250
# So that a reconnect never has to wait, and typing has its share too.
_SUBSCRIPTIONS: Final = 200
_KEPT_FOR_HANDSHAKES: Final = 10
# Seconds. The service counts arrivals: what was sent over 60 s can arrive within less.
_WINDOW: Final = 65.0


class Budget:
    """What has been sent lately, over all connections with one token.

    Times are seconds of the event loop's clock.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque()
        self._subscriptions: deque[float] = deque()

    def note_handshake(self, now: float) -> None:
        """Count one that is sent in any case."""
        self._sent.append(now)

    def take(self, now: float) -> bool:
        """Return whether an event may be sent now, and count it if so."""
        if _count(self._sent, now) >= _EVENTS - _KEPT_FOR_HANDSHAKES:
            return False
        self._sent.append(now)
        return True

    def take_subscription(self, now: float) -> bool:
        """Return whether a subscription, or the end of one, may be sent now, and count it if so."""
        if _count(self._subscriptions, now) >= _SUBSCRIPTIONS or not self.take(now):
            return False
        self._subscriptions.append(now)
        return True


def _count(sent: deque[float], now: float) -> int:
    while sent and now - sent[0] >= _WINDOW:
        sent.popleft()
    return len(sent)
