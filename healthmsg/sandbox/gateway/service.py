"""The gateway as a whole: it answers upgrades, and hands on what the hub announces."""

from typing import Final
from uuid import UUID, uuid5

from aiohttp import web
from attrs import define, field

from healthmsg.sandbox.call import ApiError
from healthmsg.sandbox.gateway.faults import Gateway
from healthmsg.sandbox.gateway.session import Budget, Session
from healthmsg.sandbox.hub import Announcement
from healthmsg.sandbox.state import State

# Fixed, so that the same steps give the same ids in every run; not the store's, whose ids would then depend
# on how often clients connect.
_NAMESPACE: Final = UUID("0d6a4bb2-54c8-4e0b-8a4a-6c5b6e0f2d17")


@define(eq=False)
class GatewayService:
    """Serves all connections of one sandbox's gateway."""

    _state: State
    gateway: Gateway
    _sessions: list[Session] = field(factory=list, init=False, repr=False)
    _budgets: dict[str, Budget] = field(factory=dict, init=False, repr=False)
    """By access token; only of those that this sandbox issued."""

    def __attrs_post_init__(self) -> None:
        self._state.store.hub.listen(self._hear)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for a connection, and serve it until it ends."""
        self.gateway.connects += 1
        refusal = self.gateway.take_refusal()
        if refusal is not None:
            return ApiError(refusal, "refused", "No connection is accepted now.").answer()
        session_id = str(uuid5(_NAMESPACE, str(self.gateway.connects)))
        session = Session(request, self._state, self.gateway, self._budget_of, session_id)
        if not session.is_upgrade:
            headers = {"Upgrade": "websocket"}
            return ApiError(426, "upgrade_required", "This is a WebSocket.", headers=headers).answer()
        self._sessions.append(session)
        try:
            return await session.run()
        finally:
            self._sessions.remove(session)

    def _hear(self, announcement: Announcement) -> None:
        for session in tuple(self._sessions):
            session.hear(announcement)

    def _budget_of(self, token: str) -> Budget:
        return self._budgets.setdefault(token, Budget())
