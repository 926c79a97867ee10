"""The connections: one aiohttp session, made when it is first needed."""

import asyncio
import math
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from healthmsg.clock import machine_seconds
from healthmsg.errors import ClientClosedError, ConfigurationError, WrongEventLoopError
from healthmsg.network import EnvironmentProxies, Network
from healthmsg.pipeline.deadline import Deadline

# A server that hangs must not eat up all file descriptors of the process.
_MOST_CONNECTIONS: Final = 256
# Seconds that the machine has slept, after which kept connections are not used again.
_SLEEP: Final = 10.0


class _NoCookies(aiohttp.DummyCookieJar):
    """Neither stores nor sends cookies, and makes no new empty set of them for each call."""

    _none: SimpleCookie = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> SimpleCookie:  # noqa: ARG002 - aiohttp's
        return self._none


class _Connector(aiohttp.TCPConnector):
    """Uses no connection again that was kept while the machine slept: the other side has closed it.

    aiohttp drops what was not used for 15 seconds, by a clock that stands still meanwhile. To send a message
    over such a connection does no harm, but leaves open whether it was delivered.
    """

    _ahead = math.inf
    """How far the machine's clock was ahead of the event loop's when it was looked at last."""

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's
        before, self._ahead = self._ahead, machine_seconds() - asyncio.get_running_loop().time()
        if self._ahead - before > _SLEEP:
            # aiohttp has no public way to ask for these. It uses none that is closed.
            for kept in getattr(self, "_conns", {}).values():
                for protocol, _ in kept:
                    protocol.close()
        return await super().connect(req, traces, timeout)


class Connections:
    """One pool for all calls of a client, however long each of them may take.

    After the machine has slept, calls make new connections, unless the pool is that of a session passed in.

    A session that is passed in stays open, and only its pool, proxy, tracing and middlewares are used: none
    of its cookies, headers or credentials, and it stores no cookie of ours.
    """

    def __init__(
        self,
        network: Network,
        *,
        headers: Mapping[str, str],
        request_class: type[aiohttp.ClientRequest],
        given: aiohttp.ClientSession | None,
    ) -> None:
        if given is not None and network.ssl is not None:
            raise ConfigurationError("a session that is passed in brings its own TLS settings: leave ssl out")
        self._network = network
        self._headers = headers
        self._request_class = request_class
        self._given = given
        self._closed = False
        # A proxy that was named comes before those of the environment.
        self.environment: EnvironmentProxies | None = (
            EnvironmentProxies() if network.trust_env and network.proxy is None else None
        )
        self.session: aiohttp.ClientSession | None = None
        self.middlewares: tuple[Any, ...] = ()
        # Those of one length share a timer, and each goes with the last who uses it.
        self._deadlines: WeakValueDictionary[float, Deadline] = WeakValueDictionary()

    def open(self) -> aiohttp.ClientSession:
        """Give the session, made now if there is none yet."""
        if self._closed:
            raise ClientClosedError
        if self.session is None:
            self.session = self._make()
        return self.session

    def deadline(self, seconds: float) -> Deadline:
        """Give the time-out that all calls of this length share."""
        return self._deadlines.setdefault(seconds, Deadline(seconds))

    async def close(self) -> None:
        """Close the connections; of a session that was passed in, none."""
        for deadline in self._deadlines.values():
            deadline.close()
        self._closed = True  # a call that waits for its turn or its next try must not open a session again
        session, self.session = self.session, None
        if session is None:
            return
        if self._given is None:
            await session.close()
        else:
            session.detach()

    def _make(self) -> aiohttp.ClientSession:
        network = self._network
        options: dict[str, Any] = {
            "cookie_jar": _NoCookies(),
            "request_class": self._request_class,
            "headers": self._headers,
            "proxy": network.proxy,
        }
        if self._given is not None:
            return self._beside(self._given, options)
        trusted = True if network.ssl is None else network.ssl
        connector = _Connector(limit=_MOST_CONNECTIONS, ssl=trusted)
        return aiohttp.ClientSession(connector=connector, **options)

    def _beside(self, given: aiohttp.ClientSession, options: dict[str, Any]) -> aiohttp.ClientSession:
        """Make a session that shares a given one's pool, and none of what would change our calls."""
        if given.closed:
            raise ConfigurationError("the session that was passed in is closed")
        connector = given.connector
        # aiohttp has no public way to ask a session for these, nor for its proxy, and `loop` warns.
        if connector is None or getattr(given, "_loop", None) is not asyncio.get_running_loop():
            raise WrongEventLoopError
        self.middlewares = tuple(getattr(given, "_middlewares", ()))
        if self._network.proxy is None:
            options["proxy"] = _proxy_of(given)
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            trust_env=given.trust_env,
            trace_configs=given.trace_configs,
            **options,
        )


def _proxy_of(given: aiohttp.ClientSession) -> URL | None:
    proxy, auth = getattr(given, "_default_proxy", None), getattr(given, "_default_proxy_auth", None)
    if proxy is None or auth is None:
        return proxy and URL(proxy)
    return URL(proxy).with_user(auth.login).with_password(auth.password)
