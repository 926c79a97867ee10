"""What a client is made of."""

from attrs import Factory, evolve, frozen

from healthmsg.auth.manager import TokenManager
from healthmsg.environment import Environment
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.exchange import Send, Step
from healthmsg.pipeline.limit import Limiter, LimitStep
from healthmsg.pipeline.notices import Notices
from healthmsg.pipeline.quota import QuotaStep
from healthmsg.pipeline.record import OnCall, RecordStep
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.pipeline.server_clock import ServerClock
from healthmsg.pipeline.stats import Counters
from healthmsg.pipeline.wire import Wire
from healthmsg.resources.aliases import Aliases
from healthmsg.resources.deliveries import Deliveries
from healthmsg.shared import Shared


@frozen(eq=False)
class Parts:
    """What a client is made of. A view is made of the same, with some of it replaced."""

    environment: Environment
    shared: Shared
    notices: Notices
    limiter: Limiter
    counters: Counters
    call_steps: tuple[Step, ...]
    """limit → record → check"""
    fetch_steps: tuple[Step, ...]
    """record → check"""
    token_call: Send
    """limit → record → check → wire"""
    wire: Wire
    retry: RetryStep
    tokens: TokenManager
    quota: QuotaStep
    deliveries: Deliveries
    aliases: Aliases
    call: Send = Factory(lambda self: self._call(self.wire), takes_self=True)
    """limit → record → check → wire: what is the same for all users."""
    fetch: Send = Factory(lambda self: self._fetch(self.wire, self.retry), takes_self=True)
    """retry → record → check → wire"""

    def over(self, wire: Wire, retry: RetryStep) -> "Parts":
        """Give the same, for calls that may take other times, or be tried otherwise."""
        call, fetch = self._call(wire), self._fetch(wire, retry)
        return evolve(self, wire=wire, retry=retry, call=call, fetch=fetch)

    def _call(self, wire: Wire) -> Send:
        return fold(self.call_steps, wire)

    def _fetch(self, wire: Wire, retry: RetryStep) -> Send:
        return self.shared.entrance(fold([retry, *self.fetch_steps], wire))


def assembled(  # noqa: PLR0913 - a client has that many
    environment: Environment,
    *,
    wire: Wire,
    retries: Retries,
    limiter: Limiter,
    on_call: OnCall | None,
    tokens: TokenManager,
) -> Parts:
    """Make the parts of a client."""
    limit = LimitStep(limiter, longest_pause=retries.max_wait)
    notices, counters, clock, aliases = Notices(), Counters(), ServerClock(), Aliases()
    record = RecordStep(on_call, counters, url=environment.api_url)
    record_token_call = RecordStep(on_call, counters, url=environment.token_url)
    return Parts(
        environment=environment,
        shared=Shared(wire, limit),
        notices=notices,
        limiter=limiter,
        counters=counters,
        call_steps=(limit, record, CheckStep(notices, clock)),
        fetch_steps=(RecordStep(on_call, counters), CheckStep()),
        token_call=fold([limit, record_token_call, CheckStep()], wire),
        wire=wire,
        retry=RetryStep(retries),
        tokens=tokens,
        quota=QuotaStep(),
        deliveries=Deliveries(clock, aliases),
        aliases=aliases,
    )
