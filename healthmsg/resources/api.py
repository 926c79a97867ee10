"""What every resource is built on: sending a request, and decoding its answer."""

from collections.abc import Mapping
from typing import TypeVar

from attrs import frozen

from healthmsg.addresses import ChatAddress
from healthmsg.codec import decode
from healthmsg.errors import InvalidResponseError
from healthmsg.models import SentMessage
from healthmsg.paging import Spawn
from healthmsg.pipeline.exchange import Content, Lane, Multipart, Request, Send
from healthmsg.routes import Route

T = TypeVar("T")


@frozen
class Api:
    """The service as resources see it: no client, no session, no token."""

    send: Send
    """Carries out a call to the API, as the user."""
    fetch: Send
    """Fetches a link on another host: without token and without counting against the limit."""
    spawn: Spawn
    url: str
    lane: Lane = Lane.INTERACTIVE

    async def read(
        self,
        shape: type[T],
        route: Route,
        chat: ChatAddress | None = None,
        query: Mapping[str, str] | None = None,
        **ids: object,
    ) -> T:
        """Read something."""
        request = self.request(route, chat, **ids)
        request.query = query
        response = await self.send(request)
        try:
            return decode(response.body, shape, request.call)
        except InvalidResponseError as error:
            error.attempts = request.attempt
            raise

    async def post(self, route: Route, chat: ChatAddress, body: Content | Multipart) -> SentMessage:
        """Create a message.

        Raises:
            DeliveryUnknownError: also when it was accepted but the answer cannot be understood.
        """
        request = Request(route.call(chat), route.method, route.path(chat), body=body, lane=self.lane)
        response = await self.send(request)
        try:
            return decode(response.body, SentMessage, request.call)
        except InvalidResponseError as error:
            problem = error.problem
        raise request.delivery_unknown(problem, status=response.status)

    def request(self, route: Route, chat: ChatAddress | None = None, **ids: object) -> Request:
        """Address a request; nothing is sent."""
        return Request(route.call(chat), route.method, route.path(chat, **ids), lane=self.lane)
