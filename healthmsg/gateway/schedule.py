"""What catching up asks for, and when the lists of chats are to be read."""

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
