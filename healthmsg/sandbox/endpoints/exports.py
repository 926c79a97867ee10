"""A whole chat as a file."""

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import bad_request
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.pdf import chat_as_pdf
from healthmsg.sandbox.routing import Table

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


async def link_to_pdf(call: ApiCall) -> web.Response:
    """GET {chat}/pdf [V].

    That both dates are included, and that `headers=false` changes nothing, is assumed [A].
    """
    chat = call.chat()
    start, end = _moment(call, "start_date", _EARLIEST), _moment(call, "end_date", _LATEST)
    if start > end:
        raise bad_request("start_date is after end_date.")
    title = chat.subject or " - ".join(f"{person.first_name} {person.last_name}" for person in chat.members)
    content = chat_as_pdf(title, [message for message in chat.messages if start <= message.created_at <= end])
    return call.link_to(call.state.store.new_file("chat.pdf", "application/pdf", content))


def _moment(call: ApiCall, name: str, default: datetime) -> datetime:
    """Read a date and time: ISO 8601, or in the form that the vendor's client writes, `…Z+00:00` [V].

    No offset means UTC [A].
    """
    text = call.request.query.get(name)
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text.removesuffix("+00:00") if text.endswith("Z+00:00") else text)
    except ValueError:
        raise bad_request(f"{name} must be a date and time such as 2026-01-02T03:04:05Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


TABLE: Final[Table[ApiCall]] = (("GET", "{chat}/pdf", link_to_pdf),)
