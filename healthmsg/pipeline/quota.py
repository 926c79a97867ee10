"""The quota step: a user's quota that is used up holds back that user alone.

That nothing is answered until the reset is assumed [A], and a reset can be wrong: a far year, a unit that is
not known. So after an hour one call is made all the same, as for the limit.
"""

from collections.abc import Mapping
from typing import Final

from attrs import Factory, define

from healthmsg.clock import Stopwatch, service_time
from healthmsg.errors import QuotaExceededError, StatusError
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.quota import Quota, has_quota, may_be_used_up, quota_of, wait_for_reset

# Seconds. Whatever the headers say, after an hour one call is made all the same.
_LONGEST_WAIT: Final = 3600.0
# Answers that have nothing to do with a user's quota.
_TELL_NOTHING: Final = frozenset({401, 429, *range(500, 600)})


@define
class UsedUp:
    """A quota that is used up."""

    seconds: float
    """How long it is so from now on, by the machine's clock: it is renewed also while the machine sleeps."""
    quota: Quota | None
    is_refuted: bool = False
    """Whether a call was answered all the same: then only a 429 holds back, until the quota is renewed."""
    _since: Stopwatch = Factory(Stopwatch)
    _next_probe: float = _LONGEST_WAIT

    @property
    def left(self) -> float:
        """How many seconds are left."""
        return self.seconds - self._since.seconds()

    @property
    def holds_back(self) -> bool:
        """Whether calls are not to be made now."""
        return not self.is_refuted and self.left > 0

    def may_probe(self) -> bool:
        """Return whether this call may be made all the same; the next one may in an hour."""
        now = self._since.seconds()
        if now < self._next_probe:
            return False
        self._next_probe = now + _LONGEST_WAIT
        return True

    def record_probe(self, answer: Response | BaseException) -> None:
        """Record how the call ended that was made all the same."""
        if isinstance(answer, QuotaExceededError):
            self.seconds = 0.0  # what this answer says counts
        elif isinstance(answer, Response | StatusError) and answer.status not in _TELL_NOTHING:
            self.is_refuted = True
        else:
            self._next_probe = 0.0


class QuotaStep:
    """Sends nothing for one user until that user's quota is renewed; others go on.

    The quota of the `quota-*` headers counts per user [D], unlike the calls per second, which are the limit
    step's business. `used_up` is by token: a program may make a new view for each call of a user.
    """

    def __init__(self, used_up: dict[str | None, UsedUp] | None = None) -> None:
        self._used_up: dict[str | None, UsedUp] = {} if used_up is None else used_up
        self._last_seen: Quota | Mapping[str, str] | None = None
        """The headers as they came, until `quota` is read."""

    def for_another_user(self) -> "QuotaStep":
        """Return a step for a view."""
        return QuotaStep(self._used_up)

    @property
    def quota(self) -> Quota | None:
        """The user's quota as last seen."""
        if isinstance(self._last_seen, Mapping):
            self._last_seen = quota_of(self._last_seen)
        return self._last_seen

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go on, or fail at once and say how long the quota will still be used up."""
        probed = self._check(request) if self._used_up else None
        if probed is None:
            # It may have been used up by those who queued in front.
            request.current.after_limit = self._refuse_if_used_up
        try:
            response = await proceed(request)
        except BaseException as error:
            if probed is not None:
                probed.record_probe(error)
            if isinstance(error, StatusError):
                self._record_error(error, request)
            raise
        if probed is not None:
            probed.record_probe(response)
        headers = response.headers
        if has_quota(headers):
            self._last_seen = headers
            if may_be_used_up(headers):
                self._hold_back(request, wait_for_reset(quota_of(headers), service_time(headers)))
        return response

    def _record_error(self, error: StatusError, request: Request) -> None:
        wait = None
        if error.quota is not None:
            self._last_seen = error.quota
            wait = wait_for_reset(error.quota)
        if isinstance(error, QuotaExceededError):
            wait = error.retry_after  # what the service wants, and where it does not say, the reset
        self._hold_back(request, wait, is_refused=isinstance(error, QuotaExceededError))

    def _hold_back(self, request: Request, seconds: float | None, *, is_refused: bool = False) -> None:
        if seconds is None:
            return
        for token in [token for token, known in self._used_up.items() if known.left <= 0]:
            del self._used_up[token]
        known = self._used_up.get(request.current.token)
        if known is not None and known.is_refuted and not is_refused:
            return
        before = known.left if known is not None and known.holds_back else 0.0
        self._used_up[request.current.token] = UsedUp(max(seconds, before), self.quota)

    def _check(self, request: Request) -> UsedUp | None:
        """Refuse the call if the quota is used up; return the quota that this call probes, if any."""
        known = self._used_up.get(request.current.token)
        if known is None or not known.holds_back:
            return None
        if known.may_probe():
            return known
        raise _refusal(request, known)

    def _refuse_if_used_up(self, request: Request) -> None:
        known = self._used_up.get(request.current.token) if self._used_up else None
        if known is not None and known.holds_back:
            raise _refusal(request, known)


def _refusal(request: Request, known: UsedUp) -> QuotaExceededError:
    return QuotaExceededError(
        request.call, 429, retry_after=known.left, quota=known.quota, of_earlier_call=True
    )
