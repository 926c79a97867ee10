"""The way of a call through the sandbox: noted, held against the limit, struck by a fault, answered."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from aiohttp import web
from attrs import define, field, frozen
from yarl import URL

from healthmsg.sandbox import docs, downloads, hooks, oauth
from healthmsg.sandbox.admin import Admin
from healthmsg.sandbox.answers import ApiError, cut, too_many
from healthmsg.sandbox.call import ApiCall, Call
from healthmsg.sandbox.calls import CallLog
from healthmsg.sandbox.endpoints import TABLE
from healthmsg.sandbox.faults import Faults
from healthmsg.sandbox.limits import Policy
from healthmsg.sandbox.listening import is_called_by_own_name
from healthmsg.sandbox.quota import Quota
from healthmsg.sandbox.records import Person
from healthmsg.sandbox.routing import Endpoint, Router
from healthmsg.sandbox.state import State
from healthmsg.sandbox.tokens import Grant

API_BASE: Final = "v1"
_API: Final = Router((*TABLE, *hooks.TABLE))
_OPEN: Final = Router((*oauth.TABLE, *downloads.TABLE, *docs.TABLE))
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
    """A call that has just arrived, and what its path and its token stand for."""

    request: web.BaseRequest
    moment: float
    path: tuple[str, ...]
    """Without the API's base."""
    to_api: bool
    grant: Grant | None
    """`None`: no token, or none that this sandbox issued."""
    was_valid: bool
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
        # Per application [A]: whichever user the token is for, and be it expired. A stranger's call cannot
        # be laid at the application's door, and what is outside the API's base does not count [A].
        return self.to_api and self.grant is not None


@frozen(eq=False)
class _Struck:
    """An arrival that a fault strikes; see `Struck`."""

    service: "Service"
    arrival: _Arrival

    async def __call__(self) -> web.Response:
        return await self.service.execute(self.arrival)

    def revoke_token(self) -> None:
        if self.arrival.grant is not None:
            self.arrival.grant.revoked = True

    def go_away(self, seconds: float) -> None:
        self.service.go_away(seconds)


@define(eq=False)
class Service:
    """Answers every request that reaches the sandbox."""

    state: State
    log: CallLog
    faults: Faults
    rate_limit: Policy | None
    quota: Quota
    now: Callable[[], datetime]
    clock: Callable[[], float] | None
    go_away: Callable[[float], object]
    """Begins to be away for so many seconds."""
    _admin: Router[Call] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._admin = Admin(self.log).router

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if not is_called_by_own_name(request, self.state.hosts):
            problem = "This sandbox is not known by that name: add it to allowed_hosts (--allow-host)."
            return ApiError(421, "wrong_host", problem).answer()
        path = tuple(request.rel_url.raw_path.removeprefix("/").split("/"))
        if path[0] == "sandbox":
            return await self._answer_admin(request, path)
        if path[0] == API_BASE and request.method == "OPTIONS":
            # A browser's question before a call from another page: no call itself [A].
            return web.Response(status=204, headers=_API_HEADERS)
        response = await self._answer_noted(self._arrival(request, path))
        # Where the line was cut, the bare answer goes nowhere.
        return web.Response() if response is None else response

    async def _answer_admin(self, request: web.BaseRequest, path: tuple[str, ...]) -> web.Response:
        try:
            return await self._answer_open(self._admin, self._admin.find(request.method, path), request, path)
        except ApiError as error:
            return error.answer()

    def _arrival(self, request: web.BaseRequest, path: tuple[str, ...]) -> _Arrival:
        moment = self.clock() if self.clock else asyncio.get_running_loop().time()
        if not self._is_at_home(request, path):
            return _Arrival(request, moment, (), False, None, False)
        if path[0] != API_BASE:
            endpoint = _OPEN.find(request.method, path)
            return _Arrival(request, moment, path, False, None, False, open_endpoint=endpoint)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        grant, is_valid = self.state.tokens.known(token), self.state.tokens.is_valid(token)
        endpoint_below = _API.find(request.method, path[1:])
        return _Arrival(request, moment, path[1:], True, grant, is_valid, api_endpoint=endpoint_below)

    def _is_at_home(self, request: web.BaseRequest, path: tuple[str, ...]) -> bool:
        """Tell whether a call reached the host that serves such things: files can have one of their own."""
        origin = self.state.files_origin if path[0] == "files" else self.state.origin
        where = request.get_extra_info("sockname")
        return where is None or where[1] == URL(origin).port

    async def _answer_noted(self, arrival: _Arrival) -> web.Response | None:
        request = arrival.request
        record = self.log.add(
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
                cut(request)  # the client went away while it was sending, or sends what is no HTTP
            except Exception:
                self.log.answered(record, 500, rejected=False)
                raise
        if response is not None:
            self.log.answered(record, response.status, rejected=rejected)
            if arrival.to_api:
                # A fault's own headers stand.
                response.headers.extend(
                    {
                        name: value
                        for name, value in self._headers(arrival).items()
                        if name not in response.headers
                    }
                )
        return response

    def _refuse_if_too_many(self, arrival: _Arrival) -> web.Response | None:
        wait = None
        if arrival.counted and self.rate_limit is not None:
            wait = self.rate_limit.admit(arrival.moment)
        problem = "rate_limit_exceeded", "Over the limit of calls per second."
        if wait is None and arrival.grant and arrival.is_valid:
            wait = self.quota.take(arrival.grant.user_id, self.now())
            problem = "quota_exceeded", "This user's quota is used up."
        if wait is None:
            return None
        return too_many(*problem, wait if self.state.settings.retry_after else None).answer()

    async def _answer_admitted(self, arrival: _Arrival) -> web.Response | None:
        request = arrival.request
        path = request.rel_url.raw_path
        fault = self.faults.take(request.method, path, arrival.template, arrival.moment)
        if fault is None:
            return await self.execute(arrival)
        return await fault.answer(request, _Struck(self, arrival))

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
            raise router.why_not(path)
        return await endpoint.handle(Call(request, self.state, endpoint.ids(path)))

    async def _answer_api(self, arrival: _Arrival) -> web.Response:
        user = self._authenticate(arrival)
        endpoint = arrival.api_endpoint
        if endpoint is None:
            raise _API.why_not(arrival.path)
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
        now = self.now()
        # Without one, aiohttp would write its own.
        tells_date = self.state.store.habits.tells_date
        date = format_datetime(now.astimezone(UTC), usegmt=True) if tells_date else ""
        headers = _API_HEADERS | {"Date": date}
        if arrival.grant is None or not arrival.is_valid:
            return headers
        return headers | self.quota.headers(arrival.grant.user_id, now)
