"""What catching up asks for, and when chats and the lists of chats are to be read."""

import heapq
from math import inf

from attrs import define, field, frozen


@frozen
class ListChats:
    """Read the lists of chats."""


@frozen
class ReadChat:
    """Read a chat, after loading its record if `needs_record`."""

    key: str
    needs_record: bool


@frozen
class IdentifyChat:
    """Ask the service for a chat that is not known, or that is no longer listed."""

    key: str


@frozen
class ReadQuestion:
    """Read a message again: a question, or a request for verification, that is open."""

    key: str
    message_id: str


Job = ListChats | ReadChat | IdentifyChat | ReadQuestion


@define(eq=False)
class Listing:
    """When the lists of chats are to be read: at a connect, and again after `settle`."""

    _due: list[float] = field(factory=list)
    _is_under_way: bool = False
    is_done: bool = False
    """Whether they were read after `settle`."""
    is_last: bool = False
    """Whether the reading that is under way began after `settle`."""

    def connected(self, now: float, settled: float) -> None:
        """Have them read now, and once more later."""
        self._due, self.is_done = [now, settled], False

    def again(self, at: float) -> bool:
        """Have them read once more; return false if they are to be read anyway."""
        is_new = not self._due
        self._due = self._due or [at]
        return is_new

    def due(self) -> float | None:
        """Return from when on they are to be read; `None`: they are being read, or were."""
        return self._due[0] if self._due and not self._is_under_way else None

    def begin(self, now: float) -> None:
        """Begin to read them."""
        self._due = [at for at in self._due if at > now]
        self._is_under_way, self.is_last = True, not self._due

    def end(self) -> None:
        """End reading them."""
        self._is_under_way = False
        # A connect in between has begun once more.
        self.is_done = self.is_last and not self._due

    def failed(self, again_at: float) -> None:
        """Have them read once more."""
        self._is_under_way = False
        self._due.insert(0, again_at)
        self._due.sort()


@define(eq=False)
class DueChats:
    """When chats are to be looked at, the earliest first."""

    _heap: list[tuple[float, int, str]] = field(factory=list)
    _at: dict[str, float] = field(factory=dict)
    """The moment that a chat is queued for, of which the earliest counts."""
    _count: int = 0

    def due(self) -> float | None:
        """Return when the next one is; `None`: there is none."""
        return self._heap[0][0] if self._heap else None

    def is_before(self, key: str, at: float) -> bool:
        """Return whether a chat is queued for that moment or an earlier one."""
        return self._at.get(key, inf) <= at

    def push(self, key: str, at: float) -> None:
        """Queue a chat."""
        self._count += 1
        self._at[key] = at
        heapq.heappush(self._heap, (at, self._count, key))

    def pop(self, now: float) -> str | None:
        """Take out the next one that is due by now."""
        if not self._heap or self._heap[0][0] > now:
            return None
        at, _, key = heapq.heappop(self._heap)
        if self._at.get(key) == at:
            del self._at[key]
        if not self._at:
            self._at = {}  # an old one keeps the memory of what was in it
        return key
