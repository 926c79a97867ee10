"""Inviting somebody who is not there yet."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.invites import InviteType, invite_all, read_invite
from healthmsg.sandbox.routing import Handler, Table


def _inviting(kind: InviteType) -> Handler[ApiCall]:
    async def invite(call: ApiCall) -> web.Response:
        """POST users/invite/… [V]; 201 also for somebody who was there already [A]."""
        wanted = read_invite(await call.body(), kind)
        (person,) = invite_all(call.state.store, call.user, [wanted])
        return json_answer({"id": person.id}, status=201)

    return invite


TABLE: Final[Table[ApiCall]] = (
    ("POST", "users/invite/coworker", _inviting(InviteType.COWORKER)),
    ("POST", "users/invite/contact", _inviting(InviteType.CONTACT)),
    ("POST", "users/invite/private", _inviting(InviteType.PRIVATE_USER)),
)
