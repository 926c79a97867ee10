"""The log of a worker: what it does, what keeps it from that, and what to do. Nothing of a message."""

from collections.abc import Iterator
from typing import Final

from attrs import define, field, frozen

from healthmsg import errors
from healthmsg.cli.problems import error_kind, error_text
from healthmsg.worker import WorkerStats

_LIMIT_AWAY: Final = "See that the store of the limit can be reached."
# The more special come first. What each leads to is the same: nothing is lost, and nothing is sent meanwhile.
_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.ReauthorizationRequiredError, "Put another token where this worker has its own from."),
    (errors.QuotaExceededError, "Wait until the user may make calls again, or have the quota raised."),
    (errors.TokenStoreError, "See that the store of the tokens can be reached."),
    (errors.TokenRequestError, "See that the app's id and secret are right."),
    (errors.JournalInUseError, "A file is for one worker: several share a PostgreSQL database."),
    (errors.JournalVersionError, "Have all workers run the version of healthmsg that made the journal."),
    (errors.JournalMismatchError, "Each user and each service needs a journal of its own: use that one."),
    (errors.JournalError, "See that the journal is there and can be reached."),
    (errors.LimitUnavailableError, _LIMIT_AWAY),
    (errors.ConnectError, "See whether the service can be reached from here."),
)
_BY_ITSELF: Final = "It tries again by itself."
_WITHOUT_LOSS: Final = "Nothing is lost: what is not sent waits in the journal."
_NOT_LOST: Final = f"{_WITHOUT_LOSS[:-1]}, for another worker or the next start."
# Seconds between two lines with figures, which are left out while they stay the same.
_FIGURES_EVERY: Final = 30.0
# Seconds after which a trouble is said once more while it lasts.
_AGAIN_AFTER: Final = 600.0


@frozen
class Trouble:
    """What keeps a worker from sending."""

    kind: str
    """The same for all of one kind: how often it was tried, and when, makes no other."""
    line: str


def advice_on(problem: BaseException) -> str:
    """Return what a person can do about a problem; empty: nothing is known."""
    return next((advice for kind, advice in _ADVICE if isinstance(problem, kind)), "")


def trouble_of(problem: Exception) -> Trouble:
    """Return a problem with what to do about it."""
    return _trouble(error_kind(problem), error_text(problem), advice_on(problem))


def limit_away() -> Trouble:
    """Return what it is when the store of the limit does not answer, and nothing is leased any more."""
    return _trouble("limit", "what the limit of calls is shared over does not answer", _LIMIT_AWAY)


def _trouble(kind: str, problem: str, advice: str) -> Trouble:
    words = " ".join(filter(None, (advice, _BY_ITSELF, _WITHOUT_LOSS)))
    return Trouble(kind, f"NOT SENDING: {problem}\n          {words}")


def last_words(problem: BaseException | None) -> str:
    """Return what there is to do, and to know, when a worker has ended by itself."""
    advice = "" if problem is None else advice_on(problem.__cause__ or problem)
    return " ".join(filter(None, (advice, _NOT_LOST)))


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
    _trouble: str = field(default="", init=False)
    _said_at: float = field(default=0.0, init=False)
    _was_ready: bool = field(default=False, init=False)
    _shown: WorkerStats = field(factory=WorkerStats, init=False)
    _shown_at: float | None = field(default=None, init=False)

    def lines(
        self, trouble: Trouble | None, stats: WorkerStats, now: float, *, is_ready: bool
    ) -> Iterator[str]:
        """Yield what is new since the last look: when it can send and when not, and how far it is."""
        if trouble is not None:
            if trouble.kind != self._trouble or now - self._said_at >= _AGAIN_AFTER:
                self._trouble, self._said_at = trouble.kind, now
                yield trouble.line
        elif is_ready and (self._trouble or not self._was_ready):
            yield "Sends again." if self._was_ready else "Ready: it sends what campaigns are in the journal."
            self._trouble, self._was_ready = "", True
        if self._shown_at is None:
            self._shown_at = now
        elif now - self._shown_at >= _FIGURES_EVERY:
            self._shown_at = now
            if stats != self._shown and not self.is_quiet:
                self._shown = stats
                yield f"{figures(stats)}."
