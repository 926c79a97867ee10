"""The user, the user's contacts, and other users."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer, not_found
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.records import Person
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.shapes import user_json


async def show_me(call: ApiCall) -> web.Response:
    """GET me [V]."""
    return json_answer(user_json(call.user))


async def list_contacts(call: ApiCall) -> web.Response:
    """GET me/contacts [V]."""
    contacts = call.state.store.contacts_of(call.user)
    return json_answer([user_json(person) for person in call.page(contacts)])


async def show_user(call: ApiCall) -> web.Response:
    """GET users/{user_id} [V]."""
    return json_answer(user_json(find_visible(call, call.state.store.people.get(call.ids["user_id"]))))


async def show_aux_user(call: ApiCall) -> web.Response:
    """GET aux/users/{aux_id} [V]."""
    return json_answer(
        user_json(find_visible(call, call.state.store.people_by_aux_id.get(call.ids["aux_id"])))
    )


def find_visible(call: ApiCall, person: Person | None) -> Person:
    """Give a user whom the caller may see, else 404: a professional sees all, a patient only contacts [A]."""
    may_see = person is call.user or call.user.company or person in call.state.store.contacts_of(call.user)
    if person is None or not may_see:
        raise not_found("user")
    return person


TABLE: Final[Table[ApiCall]] = (
    ("GET", "me", show_me),
    ("GET", "me/contacts", list_contacts),
    ("GET", "users/{user_id}", show_user),
    ("GET", "aux/users/{aux_id}", show_aux_user),
)
