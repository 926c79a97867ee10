"""The ledger: how many slots each process holds, and the free ones. It is what the store keeps, as JSON."""

import json
from typing import Any, Final

from attrs import asdict, define, field, frozen

from healthmsg.ratelimit.leases.shares import Needs, shares

_NOTHING: Final[Needs] = (0, 0, 0)


@frozen
class Terms:
    """What all processes of one limit must agree on. `per`, `arrival` and `lease` are in seconds."""

    calls: int
    per: float
    arrival: float
    lease: float

    def longest_use(self, arrival: float) -> float:
        """Return how long after the beginning of a lease its last call may count at the server."""
        return (self.lease + self.per + max(arrival, self.arrival)) * 1.01


@define
class Member:
    """What one process holds."""

    arrival: float
    """How long its calls may be under way: more than the limit says, after a 429."""
    held: int = 0
    writes: int = 0
    """How often it has written the ledger: so it knows after a lost answer whether it had."""
    needs: Needs = _NOTHING
    lock: int | None = None
    """The lock that its session holds, ..."""
    server: str = ""
    """... under this start of the store."""
    given: int = 0
    """How many slots were ever handed to it."""
    gifts: list[float] = field(factory=list)
    """The seconds for which the last ones of those were to rest, until it has seen them."""
    owes: int = 0
    """What it was last asked for."""

    def take(self, rest: float) -> None:
        """Hand it a slot."""
        self.held += 1
        self.given += 1
        self.gifts.append(rest)


@frozen
class Pause:
    """A pause after a refusal. The number goes up with each; `seconds` are those that are left."""

    number: int
    seconds: float
    asked: bool


@define
class Ledger:
    """Who holds what. Slots that are held, and those that are free, are all slots of the limit."""

    terms: Terms
    server: str
    """Which start of the store this was written under."""
    free: list[float]
    """Seconds for which each free slot has to rest, counted from when it is taken."""
    members: dict[str, Member] = field(factory=dict)
    pause: Pause | None = None

    @classmethod
    def new(cls, terms: Terms, server: str, rest: float = 0.0) -> "Ledger":
        """Return one in which all slots are free, after that many seconds."""
        return cls(terms, server, [rest] * terms.calls)

    @classmethod
    def from_json(cls, text: str) -> "Ledger":
        """Read it."""
        found: dict[str, Any] = json.loads(text)
        members = {
            name: Member(**{**member, "needs": tuple(member["needs"])})
            for name, member in found["members"].items()
        }
        pause = None if found["pause"] is None else Pause(**found["pause"])
        return cls(Terms(**found["terms"]), found["server"], found["free"], members, pause)

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def put(self, rests: list[float]) -> None:
        """Let slots be free after so many seconds."""
        self.free.extend(max(0.0, round(rest, 4)) for rest in rests)

    def remove(self, name: str) -> None:
        """Take out a process whose lease is over; its slots are free."""
        member = self.members.pop(name, None)
        self.put([0.0] * (0 if member is None else member.held))

    def targets(self) -> dict[str, int]:
        """Return how many slots each should have."""
        members = self.members
        needs = {name: member.needs for name, member in members.items()}
        return shares(self.terms.calls, needs, {name: member.held for name, member in members.items()})

    def debts(self) -> dict[str, int]:
        """Return what each has to return, so that the others get what they should have."""
        targets = self.targets()
        needed = sum(max(0, targets[name] - member.held) for name, member in self.members.items())
        needed -= len(self.free)
        debts: dict[str, int] = {}
        surplus = {name: member.held - targets[name] for name, member in self.members.items()}
        for name in sorted(surplus, key=lambda name: (-surplus[name], name)):
            debts[name] = max(0, min(needed, surplus[name]))
            needed -= debts[name]
        return debts

    def hand_out(self) -> None:
        """Hand the free slots to those who should have more: what rests least to what goes first.

        What no process needs is held all the same, evenly: then it is there when it is needed, and its
        holder pays it at once.
        """
        targets = self.targets()
        self.free.sort()
        for lane in range(4):
            for name, member in sorted(self.members.items()):
                stage = max(1, sum(member.needs[:lane]))
                while self.free and member.held < min(stage, targets[name]):
                    member.take(self.free.pop(0))
        while self.free and self.members:
            min(self.members.values(), key=lambda member: member.held).take(self.free.pop(0))
