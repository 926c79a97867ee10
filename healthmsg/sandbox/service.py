"""How the sandbox answers a call: it is logged, held against the limits, given a fault or carried out."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import format_datetime
from typing import Final

from aiohttp import web
from attrs import define, frozen
from yarl import URL

from healthmsg.sandbox import docs, oauth, page, remote
from healthmsg.sandbox.call import ApiCall, ApiError, Call, cut, too_many
from healthmsg.sandbox.endpoints import TABLE
from healthmsg.sandbox.endpoints.files import DOWNLOADS
from healthmsg.sandbox.endpoints.group_chats import HOOKS
from healthmsg.sandbox.faults import Faults
from healthmsg.sandbox.gateway.service import GatewayService
from healthmsg.sandbox.listener import is_allowed_host
from healthmsg.sandbox.records import Person
from healthmsg.sandbox.routing import Endpoint, Router
from healthmsg.sandbox.state import API_BASE, GATEWAY, Grant, State

_API: Final = Router((*TABLE, *HOOKS))
_OPEN: Final = Router((*oauth.TABLE, *DOWNLOADS, *docs.TABLE))
_ADMIN: Final = Router((*page.TABLE, *remote.TABLE))
# The names are documented [D], the values made up. The version is the latest there is, whatever is asked for.
_API_HEADERS: Final = {
    "sunset": "n/a",
    "api-version": "1.0",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "authorization, content-type, api-version",
    "access-control-allow-methods": "GET, POST, PUT, DELETE",
    "access-control-max-age": "3600",
}


@frozen(eq=False)
class _Arrival:
    """A call that has just arrived, with the endpoint of its path and the grant of its token."""

    request: web.BaseRequest
    moment: float
    path: tuple[str, ...]
    """Without the API's base."""
    to_api: bool = False
    grant: Grant | None = None
    """`None`: no token, or none that this sandbox issued."""
    was_valid: bool = False
    """Whether the token was neither expired nor revoked."""
    api_endpoint: Endpoint[ApiCall] | None = None
    open_endpoint: Endpoint[Call] | None = None

    @property
    def template(self) -> str | None:
        endpoint = self.api_endpoint or self.open_endpoint
        return endpoint.template if endpoint else None

    @property
    def is_valid(self) -> bool:
        return self.was_valid and self.grant is not None and not self.grant.revoked

    @property
    def counted(self) -> bool:
        # Per application [A]: whichever user the token is for, even if it is expired. A call without a token
        # of this sandbox cannot be the application's, and what is outside the API's base does not count [A].
        return self.to_api and self.grant is not None


@frozen(eq=False)
class _FaultedCall:
    """An arrival that a fault is injected into; see `FaultedCall`."""

    service: "Service"
    arrival: _Arrival

    async def __call__(self) -> web.Response:
        return await self.service.execute(self.arrival)

    def revoke_token(self) -> None:
        if self.arrival.grant is not None:
            self.arrival.grant.revoked = True

    def go_offline(self, seconds: float) -> None:
        self.service.go_offline(seconds)


@define(eq=False)
class Service:
    """Answers every request that reaches the sandbox."""

    state: State
    faults: Faults
    go_offline: Callable[[float], object]
    """Starts to be offline for so many seconds."""
    gateway: GatewayService

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if not is_allowed_host(request, self.state.hosts):
            problem = "This sandbox is not known by that name: add it to allowed_hosts (--allow-host)."
            return ApiError(421, "wrong_host", problem).answer()
        path = tuple(request.rel_url.raw_path.removeprefix("/").split("/"))
        if path[0] == "sandbox" or path == ("",):
            return await self._answer_admin(request, path)
        if path[0] == API_BASE and request.method == "OPTIONS":
            # A browser's question before a call from another page: no call itself [A].
            return web.Response(status=204, headers=_API_HEADERS)
        if path == (API_BASE, GATEWAY) and request.method == "GET":
            return await self.gateway.answer(request)
        response = await self._answer_logged(self._arrival(request, path))
        # Where the connection was cut, the bare answer goes nowhere.
        return web.Response() if response is None else response

    async def _answer_admin(self, request: web.BaseRequest, path: tuple[str, ...]) -> web.Response:
        try:
            return await self._answer_open(_ADMIN, _ADMIN.find(request.method, path), request, path)
        except ApiError as error:
            return error.answer()

    def _arrival(self, request: web.BaseRequest, path: tuple[str, ...]) -> _Arrival:
        clock = self.state.options.clock
        moment = clock() if clock else asyncio.get_running_loop().time()
        if not self._is_right_port(request, path):
            return _Arrival(request, moment, ())
        if path[0] != API_BASE:
            return _Arrival(request, moment, path, open_endpoint=_OPEN.find(request.method, path))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        grant, is_valid = self.state.tokens.known(token), self.state.tokens.is_valid(token)
        endpoint = _API.find(request.method, path[1:])
        return _Arrival(request, moment, path[1:], True, grant, is_valid, api_endpoint=endpoint)

    def _is_right_port(self, request: web.BaseRequest, path: tuple[str, ...]) -> bool:
        """Return whether a call reached the port that serves such things: files can have one of their own."""
        origin = self.state.files_origin if path[0] == "files" else self.state.origin
        where = request.get_extra_info("sockname")
        return where is None or where[1] == URL(origin).port

    async def _answer_logged(self, arrival: _Arrival) -> web.Response | None:
        request, log = arrival.request, self.state.log
        record = log.add(
            arrived=arrival.moment,
            method=request.method,
            url=request.rel_url,
            template=arrival.template,
            counted=arrival.counted,
            headers=request.headers,
            user_id=arrival.grant.user_id if arrival.grant else None,
        )
        response, rejected = self._refuse_if_too_many(arrival), True
        if response is None:
            try:
                response, rejected = await self._answer_admitted(arrival), False
            except (ConnectionError, web.RequestPayloadError):
                cut(request)  # the client went away while it was sending, or sends what is not HTTP
            except Exception:
                log.add_answer(record, 500, rejected=False)
                raise
        if response is not None:
            log.add_answer(record, response.status, rejected=rejected)
            if arrival.to_api:
                for name, value in self._headers(arrival).items():
                    response.headers.setdefault(name, value)  # a fault's own headers stay
        return response

    def _refuse_if_too_many(self, arrival: _Arrival) -> web.Response | None:
        options, wait = self.state.options, None
        if arrival.counted and options.rate_limit is not None:
            wait = options.rate_limit.admit(arrival.moment)
        problem = "rate_limit_exceeded", "Over the limit of calls per second."
        if wait is None and arrival.grant and arrival.is_valid:
            wait = options.quota.take(arrival.grant.user_id, options.now())
            problem = "quota_exceeded", "This user's quota is used up."
        if wait is None:
            return None
        return too_many(*problem, wait if options.retry_after else None).answer()

    async def _answer_admitted(self, arrival: _Arrival) -> web.Response | None:
        request = arrival.request
        path = request.rel_url.raw_path
        fault = self.faults.take(request.method, path, arrival.template, arrival.moment)
        if fault is None:
            return await self.execute(arrival)
        return await fault.answer(request, _FaultedCall(self, arrival))

    async def execute(self, arrival: _Arrival) -> web.Response:
        """Carry a call out."""
        try:
            if arrival.to_api:
                return await self._answer_api(arrival)
            return await self._answer_open(_OPEN, arrival.open_endpoint, arrival.request, arrival.path)
        except ApiError as error:
            return error.answer()

    async def _answer_open(
        self,
        router: Router[Call],
        endpoint: Endpoint[Call] | None,
        request: web.BaseRequest,
        path: tuple[str, ...],
    ) -> web.Response:
        if endpoint is None:
            raise router.refusal(path)
        return await endpoint.handle(Call(request, self.state, endpoint.ids(path)))

    async def _answer_api(self, arrival: _Arrival) -> web.Response:
        user = self._authenticate(arrival)
        endpoint = arrival.api_endpoint
        if endpoint is None:
            raise _API.refusal(arrival.path)
        ids = endpoint.ids(arrival.path)
        return await endpoint.handle(ApiCall(arrival.request, self.state, ids, user, endpoint.kind))

    def _authenticate(self, arrival: _Arrival) -> Person:
        grant = arrival.grant
        if grant is None or not arrival.is_valid:
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # [A: RFC 6750]
            problem = "The token is missing, unknown, expired or revoked."
            raise ApiError(401, "invalid_token", problem, headers=headers)
        # [A]: which scope a call needs is not published.
        needed = "read" if arrival.request.method == "GET" else "write"
        if needed not in grant.scopes:
            raise ApiError(403, "insufficient_scope", f"This needs the scope {needed}.")
        return self.state.store.people[grant.user_id]

    def _headers(self, arrival: _Arrival) -> Mapping[str, str]:
        options = self.state.options
        now = options.now()
        # Empty, not left out: aiohttp would write its own.
        date = format_datetime(now.astimezone(UTC), usegmt=True) if options.habits.sends_date else ""
        headers = _API_HEADERS | {"Date": date}
        if arrival.grant is None or not arrival.is_valid:
            return headers
        return headers | options.quota.headers(arrival.grant.user_id, now)
