"""The user's company."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import bad_request, json_answer, not_found
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.invites import Invite, InviteType, invite_all
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.shapes import company_json, user_json


async def show_company(call: ApiCall) -> web.Response:
    """GET company [A]."""
    if call.user.company is None:
        raise not_found("company")
    return json_answer(company_json(call.user.company))


async def list_company_users(call: ApiCall) -> web.Response:
    """GET company/users [A]."""
    colleagues = call.state.store.colleagues_of(call.user)
    return json_answer([user_json(person) for person in call.page(colleagues)])


async def import_users(call: ApiCall) -> web.Response:
    """POST company/import [V]; the answer, and that every professional may do this, is assumed [A]."""
    body = await call.body()
    body.flag("send_email")
    imported = [_read_imported(row) for row in body.objects("users")]
    if not imported:
        raise bad_request("users must be an array that is not empty.")
    people = invite_all(call.state.store, call.user, imported)
    return json_answer([user_json(person) for person in people], status=201)


def _read_imported(row: Body) -> Invite:
    for name in ("username", "saml_username"):
        row.optional_text(name)
    return Invite(
        kind=InviteType.COWORKER,
        first_name=row.name("first_name"),
        last_name=row.name("last_name"),
        email=row.text("email"),
    )


TABLE: Final[Table[ApiCall]] = (
    ("GET", "company", show_company),
    ("GET", "company/users", list_company_users),
    ("POST", "company/import", import_users),
)
