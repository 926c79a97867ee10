"""The limit of calls that several processes keep together: where it is kept, and how a client comes to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from os import PathLike
from typing import Final

from attrs import Attribute, field, frozen

from healthmsg.database.target import POSTGRESQL, Target
from healthmsg.environment import comparable_url
from healthmsg.errors import ConfigurationError
from healthmsg.fleet.leases import LEASE, LeasedSource
from healthmsg.ratelimit.leases.ledger import Terms
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.source import Fallback, SharedSource

_REDIS: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
_KINDS: Final = "a SharedLimit needs the URL of a PostgreSQL database, postgresql+asyncpg://…, or redis://…"


def _a_url(_: "SharedLimit", __: "Attribute[str]", url: str) -> None:
    if not isinstance(url, str) or not url.startswith((*POSTGRESQL, *_REDIS)):
        raise ConfigurationError(_KINDS)
    if url.startswith(POSTGRESQL):
        Target.parse(url)


def _a_fallback(_: "SharedLimit", __: "Attribute[str]", fallback: str) -> None:
    if fallback not in {"stop", "divide"}:
        raise ConfigurationError('fallback must be "stop" or "divide"')


def _some_workers(_: "SharedLimit", __: "Attribute[int | None]", workers: int | None) -> None:
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ConfigurationError("workers must be at least 1")


@frozen
class SharedLimit:
    """One limit for all processes that name the same store: together they make no more calls than it allows.

    Given as `Client(rate_limit=SharedLimit("postgresql+asyncpg://…"))`; extra `postgresql`. The processes may
    be on any machines, and their clocks may differ. Interactive calls of any of them go before the catching
    up, and that before the bulk sending of any other. `rate` must be the same for all. `name` tells limits
    apart in one store; without it, it is the API's URL, since the service counts per application [A].

    With PostgreSQL each process has some of the slots on lease, for 1.2 s at a time, so that calls ask
    nothing. It needs some three statements a second. A process that dies is missed after 1.5 s, one that is
    suspended or cut off after 2.5 s; until then its slots are not used.

    With Redis or Valkey (`redis://…`, `rediss://…`, `unix://…`, `valkey://…`; extra `redis`) each call asks
    for its slot, one way there and back, and a slot goes to the process that needs it at that moment: the
    better one for interactive traffic between bulk sending. No call is made for two seconds when the limit is
    used for the very first time, and after the store has lost its memory, by a restart or a failover. A
    cluster is not supported.

    When the store is away, calls go on with what is leased, and wait for some seconds. Then, with
    `fallback="stop"`, they fail with `LimitUnavailableError` until it is back. With `"divide"` each process
    makes its part of the calls: the limit by `workers`, or by the number of processes last seen. That is only
    right if the store is away for all of them. Where that number is not known, or there are more processes
    than calls, they fail all the same.

    A client that sends with a PostgreSQL journal and has no `rate_limit` of its own shares its limit over the
    journal's database by itself, while that journal is open. `client.stats().limit` says how it stands.

    Raises:
        ConfigurationError: it cannot be a store, or an option cannot be right.
    """

    url: str = field(repr=False, validator=_a_url)
    rate: RateLimit = field(factory=RateLimit, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    fallback: Fallback = field(default="stop", kw_only=True, validator=_a_fallback)
    workers: int | None = field(default=None, kw_only=True, validator=_some_workers)

    def limiter(self, api_url: str) -> Limiter:
        """Return a limiter of this process that takes its slots from the store.

        Raises:
            ConfigurationError: the extra that it needs is not installed.
        """
        limiter = Limiter(self.rate)
        limiter.use(self.source(api_url))
        return limiter

    def source(self, api_url: str) -> SharedSource:
        """Return a source of slots for one limiter.

        Raises:
            ConfigurationError: the extra that it needs is not installed.
        """
        if self.url.startswith(_REDIS):
            return self._redis(self.name or comparable_url(api_url))
        missing = Target.parse(self.url).import_for("healthmsg.fleet.postgresql")
        if missing is not None:
            raise ConfigurationError(f'a SharedLimit needs {missing}: pip install "healthmsg[postgresql]"')
        ledger = import_module("healthmsg.fleet.postgresql").PostgresqlLedger
        target, name = Target.parse(self.url), self.name or comparable_url(api_url)
        rate = self.rate
        return LeasedSource(
            lambda on_notice, on_loss: ledger(target, name, on_notice, on_loss),
            Terms(rate.calls, rate.per, rate.arrival, max(LEASE, rate.per)),
            self.fallback,
            self.workers,
        )

    def _redis(self, name: str) -> SharedSource:
        try:
            module = import_module("healthmsg.fleet.redis")
        except ModuleNotFoundError as error:
            missing = error.name
        else:
            source: SharedSource = module.RedisSource(self.url, name, self.rate, self.fallback, self.workers)
            return source
        raise ConfigurationError(f'a SharedLimit needs {missing}: pip install "healthmsg[redis]"')


class JournalSharing:
    """Shares a client's limit over the database of its journals, while one is open.

    A limit that the program has chosen is left alone. With journals in several databases, it is the first's.
    """

    def __init__(self, limiter: Limiter, api_url: str, *, is_automatic: bool) -> None:
        self._limiter = limiter
        self._api_url = api_url
        self._is_automatic = is_automatic
        self._open = 0

    @asynccontextmanager
    async def over(self, journal: str | PathLike[str]) -> AsyncIterator[None]:
        """Share the limit as long as this journal is open, if it is in PostgreSQL."""
        if not self._is_automatic or not isinstance(journal, str) or not journal.startswith(POSTGRESQL):
            yield
            return
        if not self._open:
            self._limiter.use(SharedLimit(journal, rate=self._limiter.rate).source(self._api_url))
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                await self._limiter.use_own()
