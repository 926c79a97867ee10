"""Proving who somebody is."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer, precondition_failed
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.endpoints.people import find_visible
from healthmsg.sandbox.groups import find_members, find_people
from healthmsg.sandbox.records import VerificationRequest
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.shapes import provider_json


async def list_providers(call: ApiCall) -> web.Response:
    """GET users/{user_id}/providers [V]: those with whom the user is not verified yet."""
    person = find_visible(call, call.state.store.people.get(call.ids["user_id"]))
    return json_answer([provider_json(provider) for provider in person.providers_left])


async def list_verifications(call: ApiCall) -> web.Response:
    """GET users/{user_id}/verifications [V]; that there is a `provider_id` is assumed [A]."""
    person = find_visible(call, call.state.store.people.get(call.ids["user_id"]))
    return json_answer({"user": [provider_json(provider) for provider in person.verified_by]})


async def request_verification(call: ApiCall) -> web.Response:
    """POST {chat}/verification [V]; that the message has no text is assumed [A]."""
    body = await call.body()
    user_id, provider_id = body.text("user_id"), body.text("provider_id")
    call.check_chat_to_write_in()
    (person,) = find_people(call.state.store, [user_id])
    provider = next((left for left in person.providers_left if left.id == provider_id), None)
    if provider is None:
        raise precondition_failed("provider_not_available", "This user cannot be verified with it any more.")
    chat = call.chat_to_write_in()
    if body.strict:
        find_members(call.state.store, chat, [user_id])
    message = call.state.store.post(chat, call.user, "", payload=VerificationRequest(person, provider))
    return json_answer({"id": message.id}, status=201)


TABLE: Final[Table[ApiCall]] = (
    ("GET", "users/{user_id}/providers", list_providers),
    ("GET", "users/{user_id}/verifications", list_verifications),
    ("POST", "{chat}/verification", request_verification),
)
