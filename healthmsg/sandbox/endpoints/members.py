"""Who takes part in a group chat, and as what."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer, precondition_failed
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.groups import (
    find_members,
    find_people,
    require_admin,
    require_may_add_members,
    require_may_remove_members,
    require_owner,
    require_professionals,
)
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.shapes import member_json


async def list_members(call: ApiCall) -> web.Response:
    """GET {group_chat}/members [V]: all at once."""
    chat = call.chat()
    return json_answer([member_json(chat, member) for member in chat.members])


async def add_members(call: ApiCall) -> web.Response:
    """PUT {group_chat}/members [V]; who takes part already stays as he is [A]."""
    ids, by_aux_id = _member_ids(call, await call.body())
    chat = call.chat(to_change=True)
    require_may_add_members(chat, call.user)
    people = find_people(call.state.store, ids, by_aux_id=by_aux_id)
    chat.members = list(dict.fromkeys([*chat.members, *people]))
    return json_answer({})


async def remove_members(call: ApiCall) -> web.Response:
    """DELETE {group_chat}/members [V]."""
    ids, by_aux_id = _member_ids(call, await call.body())
    chat = call.chat(to_change=True)
    people = find_members(call.state.store, chat, ids, by_aux_id=by_aux_id)
    require_may_remove_members(chat, call.user, people)
    chat.members = [member for member in chat.members if member not in people]
    chat.admins = [admin for admin in chat.admins if admin not in people]
    return json_answer({})


def _member_ids(call: ApiCall, body: Body) -> tuple[Sequence[str], bool]:
    by_aux_id = call.kind is not None and call.kind.is_auxiliary and body.flag("aux_members")
    return body.texts("members"), by_aux_id


async def set_owner(call: ApiCall) -> web.Response:
    """PUT {group_chat}/owner [V]; who was the owner stays an admin [A]."""
    user_id = (await call.body()).text("user_id")
    chat = call.chat(to_change=True)
    require_owner(chat, call.user)
    new_owners = find_members(call.state.store, chat, [user_id])
    require_professionals(new_owners)
    (chat.owner,) = new_owners
    chat.admins = [admin for admin in dict.fromkeys([*chat.admins, call.user]) if admin is not chat.owner]
    return json_answer({})


async def add_admins(call: ApiCall) -> web.Response:
    """PUT {group_chat}/admins [V]: members only [A]."""
    ids = (await call.body()).texts("admins")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    people = find_members(call.state.store, chat, ids)
    require_professionals(people)
    chat.admins = [admin for admin in dict.fromkeys([*chat.admins, *people]) if admin is not chat.owner]
    return json_answer({})


async def remove_admins(call: ApiCall) -> web.Response:
    """DELETE {group_chat}/admins [V]; they stay members, and who is no admin stays what he is [A]."""
    ids = (await call.body()).texts("admins")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    people = find_members(call.state.store, chat, ids)
    if chat.owner in people:
        raise precondition_failed("owner_stays", "The owner is always an admin: hand the chat over first.")
    chat.admins = [admin for admin in chat.admins if admin not in people]
    return json_answer({})


TABLE: Final[Table[ApiCall]] = (
    ("GET", "{group_chat}/members", list_members),
    ("PUT", "{group_chat}/members", add_members),
    ("DELETE", "{group_chat}/members", remove_members),
    ("PUT", "{group_chat}/owner", set_owner),
    ("PUT", "{group_chat}/admins", add_admins),
    ("DELETE", "{group_chat}/admins", remove_admins),
)
