"""The log of a worker: what it does, what keeps it from that, and what to do. Nothing of a message."""

from collections.abc import Iterator
from typing import Final

from attrs import define, field

from healthmsg import errors
from healthmsg.cli.problems import error_text
from healthmsg.worker import WorkerStats

_LIMIT_AWAY: Final = "See that the store of the limit can be reached: it goes on by itself then."
# The more special come first. What each leads to is the same: nothing is lost, and nothing is sent meanwhile.
_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (
        errors.ReauthorizationRequiredError,
        "Put another token where this worker has its own from.",
    ),
    (errors.QuotaExceededError, "It goes on by itself when the user may make calls again."),
    (errors.TokenStoreError, "See that the store of the tokens can be reached: it goes on by itself then."),
    (errors.TokenRequestError, "See that the app's id and secret are right: it tries again by itself."),
    (errors.JournalVersionError, "Have all workers run the version of healthmsg that made the journal."),
    (errors.JournalMismatchError, "Each user and each service needs a journal of its own: use that one."),
    (errors.JournalError, "See that the database can be reached: it goes on by itself then."),
    (errors.LimitUnavailableError, _LIMIT_AWAY),
    (errors.ConnectError, "See whether the service can be reached from here: it goes on by itself then."),
)
_OF_OTHERS: Final = "It tries again by itself."
_WITHOUT_LOSS: Final = "Nothing is lost: what is not sent waits in the journal."
_NOT_LOST: Final = f"{_WITHOUT_LOSS[:-1]}, for another worker or the next start."
# Seconds between two lines with figures, which are left out while they stay the same.
_FIGURES_EVERY: Final = 30.0


def advice_on(problem: BaseException) -> str:
    """Return what a person can do about a problem."""
    return next((advice for kind, advice in _ADVICE if isinstance(problem, kind)), _OF_OTHERS)


def last_words(problem: BaseException | None) -> str:
    """Return what there is to do, and to know, when a worker has ended by itself."""
    cause = problem if problem is None or problem.__cause__ is None else problem.__cause__
    known = cause is not None and any(isinstance(cause, kind) for kind, _ in _ADVICE)
    return f"{advice_on(cause)} {_NOT_LOST}" if cause is not None and known else _NOT_LOST


def problem_line(problem: Exception) -> str:
    """Return what keeps the worker from sending, and what to do."""
    return _line(error_text(problem), advice_on(problem))


def limit_away_line() -> str:
    """Return the same, while what the limit is shared over does not answer and nothing is leased any more."""
    return _line("what the limit of calls is shared over does not answer", _LIMIT_AWAY)


def _line(problem: str, advice: str) -> str:
    return f"NOT SENDING: {problem}\n          {advice} {_WITHOUT_LOSS}"


def figures(stats: WorkerStats) -> str:
    """Return how far it is."""
    parts = [f"{stats.delivered:,} delivered", f"{stats.not_sent:,} not sent", f"{stats.unknown:,} unknown"]
    if stats.in_doubt:
        parts.append(f"{stats.in_doubt:,} in doubt")
    return f"{', '.join(parts)}; {stats.under_way:,} under way, {stats.waiting:,} waiting in the journal"


@define(eq=False)
class WorkerLog:
    """Which lines are due, by what is known of a worker at each look."""

    is_quiet: bool = False
    """Whether there are none with figures."""
    _problem: str = field(default="", init=False)
    _was_ready: bool = field(default=False, init=False)
    _shown: WorkerStats = field(factory=WorkerStats, init=False)
    _shown_at: float | None = field(default=None, init=False)

    def lines(self, problem: str, stats: WorkerStats, now: float, *, is_ready: bool) -> Iterator[str]:
        """Yield what is new since the last look: when it can send and when not, and how far it is."""
        if problem and problem != self._problem:
            self._problem = problem
            yield problem
        elif not problem and is_ready and (self._problem or not self._was_ready):
            yield "Sends again." if self._was_ready else "Ready: it sends what campaigns are in the journal."
            self._problem, self._was_ready = "", True
        if self._shown_at is None:
            self._shown_at = now
        elif now - self._shown_at >= _FIGURES_EVERY:
            self._shown_at = now
            if stats != self._shown and not self.is_quiet:
                self._shown = stats
                yield f"{figures(stats)}."
