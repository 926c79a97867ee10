"""How campaigns share what can be sent: by weight, and none of them starves. Pure: no clock, no I/O."""

from collections.abc import Callable, Mapping
from math import lcm
from typing import Final

from attrs import define, field

from healthmsg.bulk.journal.base import Claim

Take = Callable[[str, int], list[Claim]]
"""Takes at most so many of a campaign's next messages."""
# That all weights divide: so passes are whole numbers, and equal ones are equal.
_WHOLE: Final = lcm(*range(1, 101))


@define
class Shares:
    """Divides claims among campaigns in proportion to their weights (stride scheduling).

    Each campaign has a pass, which goes up by 1 / weight with each of its messages; the one with the lowest
    is next. A campaign that is new, or had nothing to claim for a while, begins where the others are: it
    catches nothing up, and they lose nothing. One worker's shares are its own. Since each divides what it
    claims in the same proportion, so does the fleet.
    """

    _passes: dict[str, int] = field(factory=dict, init=False)
    _noted: dict[str, int] = field(factory=dict, init=False)

    def fill(self, most: int, weights: Mapping[str, int], take: Take) -> list[Claim]:
        """Take at most so many messages: of each campaign its share, and of the rest what they leave over.

        They come as they are to be sent, those of each campaign spread over the others'.

        It may be done again, with the same transaction: nothing counts before `charge`.
        """
        passes, left, claims = self._current(weights), dict(weights), list[tuple[int, str, Claim]]()
        while left and len(claims) < most:
            for name, quota in _divide(most - len(claims), left, passes).items():
                taken = take(name, quota)
                for claim in taken:
                    passes[name] += _WHOLE // weights[name]
                    claims.append((passes[name], name, claim))
                if len(taken) < quota:
                    del left[name]
        if left:
            # What has nothing to claim gathers no credit.
            front = min(passes[name] for name in left)
            passes = {name: one if name in left else max(one, front) for name, one in passes.items()}
        self._noted: dict[str, int] = passes
        return [claim for *_, claim in sorted(claims, key=lambda one: one[:2])]

    def charge(self) -> None:
        """Count what the last `fill` has taken."""
        self._passes: dict[str, int] = self._noted

    def _current(self, weights: Mapping[str, int]) -> dict[str, int]:
        """Return the passes of these campaigns; the lowest is 0, so that they stay small."""
        front = min((self._passes[name] for name in weights if name in self._passes), default=0)
        return {name: self._passes.get(name, front) - front for name in weights}


def _divide(most: int, weights: Mapping[str, int], passes: Mapping[str, int]) -> dict[str, int]:
    """Return how many of the next messages are each campaign's, the neediest first."""
    ahead, quotas = {name: passes[name] for name in weights}, dict[str, int]()
    for _ in range(most):
        # From the same pass the heavier one goes first; then by name, as each worker does it.
        name = min(ahead, key=lambda one: (ahead[one], -weights[one], one))
        ahead[name] += _WHOLE // weights[name]
        quotas[name] = quotas.get(name, 0) + 1
    return quotas
