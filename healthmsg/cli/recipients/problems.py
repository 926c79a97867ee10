"""What is wrong with the input: all of it at once, each with its line, and nothing of a patient in it."""

from collections.abc import Iterable
from typing import Final

from attrs import Factory, define, field, frozen

_MOST_SHOWN: Final = 20


@frozen
class Problem:
    """One thing that has to be put right. `line` is that of the file where the row begins."""

    text: str
    line: int | None = None
    value: str = field(default="", repr=False)
    """What it is about, which may be a patient's: for a terminal, and nothing that is kept."""

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class RefusedError(Exception):
    """The input cannot be right. Nothing was sent."""

    def __init__(self, *problems: Problem | str, advice: str = "") -> None:
        self._advice = advice
        self.problems: tuple[Problem, ...] = tuple(
            Problem(problem) if isinstance(problem, str) else problem for problem in problems
        )
        super().__init__(*map(str, self.problems))

    @property
    def shown(self) -> str:
        """Return the first problems, how many more there are, and what to do about them."""
        lines = [f"{len(self.problems):,} problems"] if len(self.problems) > 1 else []
        lines += [str(problem) for problem in self.problems[:_MOST_SHOWN]]
        if (more := len(self.problems) - _MOST_SHOWN) > 0:
            lines.append(f"… and {more:,} more")
        if self._advice:
            lines.append(self._advice)
        return "\n".join(lines)


@define
class Problems:
    """Problems that are being collected."""

    _found: list[Problem] = Factory(list)

    def add(self, text: str, line: int | None = None, value: str = "") -> None:
        """Note one."""
        self._found.append(Problem(text, line, value))

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Note some."""
        self._found.extend(problems)

    def in_order(self) -> list[Problem]:
        """Return them in the order of their lines."""
        return sorted(self._found, key=lambda problem: problem.line or 0)

    def refuse_if_any(self) -> None:
        """Refuse the input, with the problems in the order of its lines.

        Raises:
            RefusedError: there is at least one.
        """
        if self._found:
            raise RefusedError(*self.in_order())
