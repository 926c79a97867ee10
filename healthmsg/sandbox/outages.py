"""Faults of a service that serves nobody for a while, or this caller no more."""

from aiohttp import web
from attrs import field, frozen
from attrs.validators import ge, optional

from healthmsg.sandbox.answers import cut, forbidden, too_many
from healthmsg.sandbox.faults import Execute, Struck


@frozen
class TooManyRequests:
    """Refuses the call with 429; ordered with `seconds` or `times`, a storm of them.

    `retry_after` is the number of seconds that it announces, rounded up [A: RFC 9110]; `None`: it announces
    nothing. The sandbox does not count it among the calls that its limit rejected.
    """

    retry_after: float | None = field(default=None, validator=optional(ge(0)))

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        return too_many("rate_limit_exceeded", "Too many calls.", self.retry_after).answer()


@frozen
class Forbidden:
    """Refuses the call with 403 [D], as when the application may do nothing any more, whatever its token."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        return forbidden("This application may not do that.").answer()


@frozen
class RevokeToken:
    """Ends the call's access token just before the call is carried out, which is so answered with 401 [D]."""

    async def answer(self, request: web.BaseRequest, struck: Struck) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        struck.revoke_token()
        return await struck()


@frozen
class GoAway:
    """Has the sandbox go away for so many seconds, as `Sandbox.go_away` does; the call is not carried out."""

    seconds: float = field(validator=ge(0))

    async def answer(self, request: web.BaseRequest, struck: Struck) -> web.Response | None:
        """See `Fault`."""
        struck.go_away(self.seconds)
        cut(request)
        return None
