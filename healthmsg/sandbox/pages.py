"""The pages that a person sees while signing in: plain HTML that loads nothing, everything in it escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from aiohttp import web

from healthmsg.sandbox.records import Person

_SCOPES: Final = {
    "read": "read your chats and contacts",
    "write": "send messages and files on your behalf",
    "admin": "manage users and group chats",
}
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; background: #eef2f1; color: #1c2b28; margin: 0; }
main { max-width: 26rem; margin: 8vh auto; background: #fff; border-radius: 12px; padding: 2rem;
       box-shadow: 0 2px 16px #0002; }
h1 { font-size: 1.3rem; margin-top: 0; }
select, button { font: inherit; width: 100%; padding: .6rem; border-radius: 8px; border: 1px solid #9aa; }
button { margin-top: .8rem; cursor: pointer; background: #fff; }
button[value=approve] { background: #00785a; border-color: #00785a; color: #fff; }
small { color: #566; }
"""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def consent_page(
    application: str, scopes: Sequence[str], people: Iterable[Person], chosen: Person, kept: Mapping[str, str]
) -> web.Response:
    """Ask whom to be, and whether the application may go ahead; `kept` comes back with the answer."""
    wishes = "".join(f"<li>{escape(_SCOPES[scope])} (<code>{escape(scope)}</code>)</li>" for scope in scopes)
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in kept.items()
    )
    options = "".join(_option(person, selected=person is chosen) for person in people)
    return _page(
        200,
        f"{application} asks for access",
        f"""<p>It wants to:</p><ul>{wishes}</ul>
<form method="post">{hidden}
<label>You are <select name="user_id">{options}</select></label>
<button name="decision" value="approve">Approve</button>
<button name="decision" value="refuse">Refuse</button>
</form>
<p><small>This is a sandbox on this machine; everybody in it is made up.</small></p>""",
    )


def refusal_page(reason: str) -> web.Response:
    """Say why the request cannot be trusted with a redirect."""
    return _page(400, "This sign-in cannot go on", f"<p>{escape(reason)}</p>")


def _option(person: Person, *, selected: bool) -> str:
    role = person.position or ("colleague" if person.company else "patient")
    described = escape(f"{person.first_name} {person.last_name} ({role})")
    return f'<option value="{escape(person.id)}"{" selected" if selected else ""}>{described}</option>'


def _page(status: int, title: str, content: str) -> web.Response:
    return web.Response(
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers=_HEADERS,
        text=f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>
{content}
</main></body></html>
""",
    )
