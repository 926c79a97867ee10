"""The user's company."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer, not_found
from healthmsg.sandbox.call import ApiCall
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


TABLE: Final[Table[ApiCall]] = (
    ("GET", "company", show_company),
    ("GET", "company/users", list_company_users),
)
