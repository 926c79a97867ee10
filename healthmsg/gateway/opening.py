"""Making a stream of events of a client's parts."""

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from functools import partial
from os import PathLike

from attrs import evolve

from healthmsg.assembly import Parts
from healthmsg.clock import ServerClock
from healthmsg.errors import ConfigurationError
from healthmsg.events import Event
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.connection import GatewayConnection
from healthmsg.gateway.inbox import Inbox, open_inbox
from healthmsg.gateway.stream import Events, EventsState, Subscribe
from healthmsg.ratelimit.queue import Priority
from healthmsg.transport.websocket import sockets_of
from healthmsg.validation import check_all, check_choice


def open_events(
    parts: Parts,
    store: str | PathLike[str] | None,
    kinds: Iterable[type[Event]] | None,
    subscribe: Subscribe,
    settle: float,
) -> Events:
    """Return a stream of one user's events, which is still to be entered.

    Raises:
        ConfigurationError: the environment has no gateway.
        InvalidInputError: an option cannot be right.
    """
    check_choice(subscribe, "subscribe", ("active", "all", "none"))
    wanted = None if kinds is None else check_all(kinds, type, "kinds")
    return _events(parts, partial(open_inbox, store), wanted, subscribe, settle)


def events_over(
    parts: Parts, inbox: Inbox, *, subscribe: Subscribe, settle: float, backoff: Backoff | None = None
) -> Events:
    """Return a stream that writes into an inbox which is open, and stays so.

    Raises:
        ConfigurationError: the environment has no gateway.
    """
    return _events(parts, lambda: nullcontext(inbox), None, subscribe, settle, backoff)


def _events(  # noqa: PLR0913, PLR0917 - what a stream is made of
    parts: Parts,
    inbox: Callable[[], AbstractAsyncContextManager[Inbox]],
    kinds: Collection[type[Event]] | None,
    subscribe: Subscribe,
    settle: float,
    backoff: Backoff | None = None,
) -> Events:
    url = parts.environment.gateway_url
    if url is None:
        raise ConfigurationError(
            "live events need the environment's gateway_url; KPN gives it to you:"
            " Environment.kpn(gateway_url=…)"
        )
    return Events(
        evolve(parts.api(), priority=Priority.CATCH_UP),
        connect=partial(_connection, parts, url, backoff),
        inbox=inbox,
        kinds=kinds,
        subscribe=subscribe,
        service_time=partial(_service_time, parts.deliveries.clock),
        settle=settle,
    )


def _connection(parts: Parts, url: str, backoff: Backoff | None, events: Events) -> GatewayConnection:
    tokens, token_call = parts.tokens, parts.token_call

    async def token() -> str:
        return (await tokens.current(token_call)).value

    async def renew(stale: str) -> bool:
        newer = await tokens.renew(tokens.token, token_call) if tokens.token.value == stale else tokens.token
        return newer is not None and newer.value != stale

    return GatewayConnection(
        url,
        open_socket=sockets_of(parts.wire),
        token=token,
        renew=renew,
        listener=events,
        settled=lambda: events.state is EventsState.LIVE,
        now=events.moment,
        backoff=backoff,
    )


def _service_time(clock: ServerClock) -> datetime | None:
    """Return the earliest second that the service's clock may show now; `None`: it is not known."""
    offset = clock.offset()
    # Stamps may be of whole seconds, so those of the present second are earlier than the present moment.
    return None if offset is None else (clock.moment() + offset[0]).replace(microsecond=0)
