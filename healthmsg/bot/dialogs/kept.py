"""What is in memory of dialogs: the last of those that wait, and whose chats are whose."""

from typing import Final

from attrs import define, field

from healthmsg.bot.dialogs.document import HANDED_OVER, Document
from healthmsg.bot.dialogs.run import Run
from healthmsg.bot.store.records import DialogRecord

Place = tuple[str, str]
"""A chat's address and a user's id."""
_MOST_ABSENT: Final = 10_000


class Kept:
    """The last of the dialogs that wait. The others are read from the store when something comes for them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: dict[str, Run] = {}
        self._at: dict[Place, str] = {}
        self.absent: dict[Place, None] = {}
        """Where it is known that there is none: most messages are for none, and need not ask the store."""

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

    def pop_those_at(self, event: str) -> list[Run]:
        """Take out those of which an event was the last one that they took; it is given by its key."""
        found = [run for run in self._runs.values() if run.last_event == event]
        for run in found:
            self.pop(run.id)
        return found

    def clear(self) -> None:
        """Take all out of memory."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self._at.clear()

    def note_absent(self, place: Place) -> None:
        """Note what the store has said."""
        self.absent[place] = None
        if len(self.absent) > _MOST_ABSENT:
            del self.absent[next(iter(self.absent))]

    def forget_absent(self, place: Place) -> None:
        """Note that a dialog begins there."""
        self.absent.pop(place, None)


@define(eq=False)
class Committed:
    """Which chats a person has, and which users are asked by the dialogs of others, as the store has it.

    It learns that from what is committed: what an event has done to a dialog holds only once it is.
    """

    _handed: dict[Place, tuple[str, frozenset[str]]] = field(factory=dict, repr=False)
    asking: dict[Place, dict[str, None]] = field(factory=dict, repr=False)
    """The dialogs of other users that ask one there, the newest last."""
    _asked_by: dict[str, frozenset[Place]] = field(factory=dict, repr=False)

    @property
    def has_handed_over(self) -> bool:
        """Whether a person has any chat."""
        return bool(self._handed)

    def handed_over(self, place: Place) -> frozenset[str] | None:
        """Return the commands that are handled where a person has the chat; `None`: none has it."""
        found = self._handed.get(place)
        return None if found is None else found[1]

    def newest_asking(self, place: Place) -> str | None:
        """Return the dialog of another user that asks this one; of several, the newest."""
        found = self.asking.get(place)
        return next(reversed(found)) if found else None

    def put(self, record: DialogRecord) -> None:
        """Note a dialog as it is in the store."""
        document, place = Document.of(record.document), (record.chat, record.user)
        held = document.held
        if held is not None and held.why == HANDED_OVER:
            self._handed[place] = record.id, frozenset(held.resume)
        elif (found := self._handed.get(place)) is not None and found[0] == record.id:
            del self._handed[place]
        self._note_asked(record.id, frozenset((record.chat, user) for user in document.others))

    def forget(self, dialog: str) -> None:
        """Note that a dialog has ended."""
        for place in [place for place, (handed, _) in self._handed.items() if handed == dialog]:
            del self._handed[place]
        self._note_asked(dialog, frozenset())

    def _note_asked(self, dialog: str, places: frozenset[Place]) -> None:
        before = self._asked_by.pop(dialog, frozenset())
        for place in before - places:
            del self.asking[place][dialog]
            if not self.asking[place]:
                del self.asking[place]
        for place in places - before:
            self.asking.setdefault(place, {})[dialog] = None
        if places:
            self._asked_by[dialog] = places
