"""The dialogs that are kept in memory, and the places where there is none."""

from typing import Final

from healthmsg.bot.dialogs.run import Run

Place = tuple[str, str]
"""A chat's address and a user's id."""
_MOST_ABSENT: Final = 10_000


class Kept:
    """The last of the dialogs that wait. The others are read from the store when something comes for them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: dict[str, Run] = {}
        self._at: dict[Place, str] = {}
        self._absent: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def keep(self, run: Run) -> None:
        """Keep one, and let the one go that was not used for longest."""
        record = run.record
        self._runs[record.id] = run
        self._at[record.chat, record.user] = record.id
        while len(self._runs) > self._most:
            oldest = self.pop(next(iter(self._runs)))
            if oldest is not None:
                oldest.close()

    def of(self, dialog: str) -> Run | None:
        """Return one by its id."""
        return self._runs.get(dialog)

    def at(self, place: Place) -> Run | None:
        """Return that of a chat and user."""
        dialog = self._at.get(place)
        return None if dialog is None else self._runs.get(dialog)

    def pop(self, dialog: str) -> Run | None:
        """Take one out."""
        run = self._runs.pop(dialog, None)
        if run is not None:
            self._at.pop((run.record.chat, run.record.user), None)
        return run

    def clear(self) -> None:
        """Take all out of memory."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self._at.clear()

    # --- where there is none: most messages are not for a dialog, and need not ask the store each time

    def is_absent(self, place: Place) -> bool:
        """Return whether it is known that there is no dialog of a chat and user."""
        return place in self._absent

    def note_absent(self, place: Place) -> None:
        """Note what the store has said."""
        self._absent[place] = None
        if len(self._absent) > _MOST_ABSENT:
            del self._absent[next(iter(self._absent))]

    def forget_absent(self, place: Place) -> None:
        """Note that a dialog begins there."""
        self._absent.pop(place, None)
