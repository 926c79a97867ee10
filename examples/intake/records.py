"""Where the intakes go; here in memory, in earnest the practice's own system."""

from datetime import date

from attrs import define, field, frozen


@frozen
class Record:
    """What a patient has said."""

    name: str = field(repr=False)
    born: date = field(repr=False)
    complaint: str = field(repr=False)
    pain: int


@define
class Records:
    """The intakes so far."""

    all: list[Record] = field(factory=list)

    async def add(self, record: Record) -> int:
        """Keep an intake, and return its number; the same one again changes nothing."""
        if record not in self.all:
            self.all.append(record)
        return self.all.index(record) + 1
