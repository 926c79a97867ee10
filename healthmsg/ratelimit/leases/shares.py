"""Who should have how many slots: one each, then what goes first, then the background evenly."""

from collections.abc import Mapping

Needs = tuple[int, int, int]
"""How many slots interactive calls need, the catching up, and the background."""


def shares(calls: int, needs: Mapping[str, Needs], held: Mapping[str, int]) -> dict[str, int]:
    """Return how many slots each should have, of those that are needed.

    Each has one, so that a first call need not ask, as long as that leaves two thirds to those who need
    more. `held` only decides who gets what cannot be divided: those who have it keep it.
    """
    resting = _fill(dict.fromkeys(needs, 1), max(1, calls // 3), held)
    granted, left = resting, calls - sum(resting.values())
    for lane in range(3):
        wanted = {name: max(0, sum(need[: lane + 1]) - granted[name]) for name, need in needs.items()}
        # Evenly by what each has in the end, so that the resting one is part of it.
        floor = granted if lane == 2 else dict.fromkeys(needs, 0)  # noqa: PLR2004 - the background
        more = _level(wanted, left, held, floor)
        granted = {name: granted[name] + more[name] for name in granted}
        left -= sum(more.values())
    return granted


def _fill(wanted: Mapping[str, int], left: int, held: Mapping[str, int]) -> dict[str, int]:
    return _level(wanted, left, held, dict.fromkeys(wanted, 0))


def _level(
    wanted: Mapping[str, int], left: int, held: Mapping[str, int], floor: Mapping[str, int]
) -> dict[str, int]:
    """Return what each gets, so that those who have least get more first.

    `floor` is what each has already.
    """
    asking = [name for name, want in wanted.items() if want > 0]
    granted = dict.fromkeys(wanted, 0)
    while asking and left > 0:
        lowest = min(floor[name] + granted[name] for name in asking)
        level = [name for name in asking if floor[name] + granted[name] == lowest]
        above = [floor[name] + granted[name] for name in asking if name not in level]
        step = min(left // len(level), *(wanted[name] - granted[name] for name in level))
        if above:
            step = min(step, min(above) - lowest)
        if step == 0:  # less is left than there are
            level.sort(key=lambda name: (-held.get(name, 0), name))
            for name in level[:left]:
                granted[name] += 1
            break
        for name in level:
            granted[name] += step
        left -= step * len(level)
        asking = [name for name in asking if granted[name] < wanted[name]]
    return granted
