"""The agenda that the bot works with; here in memory, in earnest the practice's own system."""

from typing import Final, Literal

from attrs import define, field

State = Literal["open", "confirmed", "moved", "cancelled"]
FREE: Final = ("woensdag 4 maart 09:00", "woensdag 4 maart 14:30", "vrijdag 6 maart 11:15")


@define
class Agenda:
    """What has become of the appointments, by their keys."""

    states: dict[str, State] = field(factory=dict)
    moved_to: dict[str, str] = field(factory=dict)
    _done: set[str] = field(factory=set)

    async def confirm(self, key: str, *, idempotency_key: str) -> None:
        """Note that the patient comes. The same idempotency key again changes nothing."""
        self._note(key, "confirmed", idempotency_key)

    async def cancel(self, key: str, *, idempotency_key: str) -> None:
        """Note that the patient does not come."""
        self._note(key, "cancelled", idempotency_key)

    async def free(self) -> list[str]:
        """Return the times that are free."""
        return [one for one in FREE if one not in self.moved_to.values()]

    async def move(self, key: str, to: str) -> bool:
        """Move an appointment to a time, if that is still free; to the same one again changes nothing."""
        if self.moved_to.get(key) == to:
            return True
        if to in self.moved_to.values():
            return False
        self.moved_to[key] = to
        self.states[key] = "moved"
        return True

    def _note(self, key: str, state: State, idempotency_key: str) -> None:
        if idempotency_key not in self._done:
            self._done.add(idempotency_key)
            self.states[key] = state
