"""Group chats: started, changed, closed and removed; their members, owner and admins; their webhooks.

Which members may do what is assumed [A].
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp import web
from attrs import define, field, fields
from yarl import URL

from healthmsg.sandbox.call import ApiCall, Body, bad_request, forbidden, json_answer, precondition_failed
from healthmsg.sandbox.endpoints.users import invite_all, read_group_invite
from healthmsg.sandbox.records import GroupSettings, Person, StoredChat, StoredMessage
from healthmsg.sandbox.routing import Table

_EVENT: Final = "groupchat_new_message"
# Seconds in which a program must answer an announcement; the answer is ignored.
_TIMEOUT: Final = 5.0


def require_admin(chat: StoredChat, user: Person) -> None:
    """Refuse users who are neither owner nor admin: most changes are theirs."""
    if not chat.is_admin(user):
        raise forbidden("Only the owner and the admins may do this.")


def require_owner(chat: StoredChat, user: Person) -> None:
    """Refuse all but the owner, who alone hands the chat over, and removes it."""
    if user is not chat.owner:
        raise forbidden("Only the owner may do this.")


def require_may_add_members(chat: StoredChat, user: Person) -> None:
    """Refuse an ordinary member, where the settings say so."""
    if not chat.settings.members_can_invite:
        require_admin(chat, user)


def require_may_remove_members(chat: StoredChat, user: Person, people: Sequence[Person]) -> None:
    """Refuse to remove the owner, and let an ordinary member only leave."""
    if list(people) != [user]:
        require_admin(chat, user)
    if chat.owner in people:
        raise precondition_failed("owner_stays", "The owner cannot be removed: hand the chat over first.")


def require_professionals(people: Iterable[Person]) -> None:
    """Refuse patients: they can be neither owner nor admin."""
    if any(person.company is None for person in people):
        raise precondition_failed("private_user", "A private user can be neither owner nor admin.")


async def create_group_chat(call: ApiCall) -> web.Response:
    """POST groupchats [V]."""
    return _create(call, await call.body(), aux_id=None)


async def create_aux_group_chat(call: ApiCall) -> web.Response:
    """POST aux/groupchats [V]; `aux_members` says that an invite has an `aux_id`, which shows anyway."""
    body = await call.body()
    body.flag("aux_members")
    return _create(call, body, aux_id=body.text("aux_id"))


def _create(call: ApiCall, body: Body, aux_id: str | None) -> web.Response:
    subject, member_ids = body.text("subject"), body.optional_texts("members")
    invites = [read_group_invite(invite) for invite in body.objects("invite_users")]
    settings = _changed(GroupSettings(), body.optional_object("settings") or Body({}))
    body.flag("send_email")
    store = call.state.store
    require_professionals([call.user])
    members = call.people(member_ids)
    invited = invite_all(store, call.user, invites)
    chat = store.start_group_chat(subject, call.user, [*members, *invited], aux_id=aux_id)
    chat.settings = settings
    return json_answer({"id": chat.id}, status=201)


async def rename(call: ApiCall) -> web.Response:
    """PUT {group_chat} [V]."""
    subject = (await call.body()).text("subject")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    chat.subject = subject
    return json_answer({})


async def close_or_remove(call: ApiCall) -> web.Response:
    """DELETE {group_chat} [V]; that only an open chat can be closed is assumed [A]."""
    body = await call.body()
    body.flag("send_email")
    remove = body.flag("remove")
    chat = call.chat()
    if remove:
        require_owner(chat, call.user)
        call.state.store.remove_group_chat(chat)
        return web.Response(status=204)
    require_admin(chat, call.user)
    if chat.closed:
        raise precondition_failed("chat_is_closed", "This chat is closed.")
    call.state.store.close_chat(chat)
    return json_answer({})


async def change_settings(call: ApiCall) -> web.Response:
    """PUT {group_chat}/settings [V]: what is not sent stays."""
    body = await call.body()
    if body.strict and not any(body.has(setting.name) for setting in fields(GroupSettings)):
        raise bad_request("There is no setting in this.")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    chat.settings = _changed(chat.settings, body)
    return json_answer({})


async def set_avatar(call: ApiCall) -> web.Response:
    """POST {group_chat}/avatar [V]."""
    require_admin(call.chat(to_change=True), call.user)
    files = (await call.form(files_part="avatar")).files
    if len(files) > 1:
        raise bad_request("The form may have one file only.")
    # Again: things may have changed while the file came in.
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    chat.avatar = call.state.publish(files[0])
    return json_answer({})


def _changed(settings: GroupSettings, body: Body) -> GroupSettings:
    """Return the settings with those that were sent in their place."""
    return GroupSettings(
        allow_contacts=body.flag("allow_contacts", default=settings.allow_contacts),
        auto_close_after=body.number("auto_close_after", default=settings.auto_close_after),
        auto_expire_after=body.number("auto_expire_after", default=settings.auto_expire_after),
        hybrid_messaging=body.flag("hybrid_messaging", default=settings.hybrid_messaging),
        members_can_invite=body.flag("members_can_invite", default=settings.members_can_invite),
    )


async def list_members(call: ApiCall) -> web.Response:
    """GET {group_chat}/members [V]: all at once."""
    return json_answer(call.chat().members_to_json())


async def add_members(call: ApiCall) -> web.Response:
    """PUT {group_chat}/members [V]; members stay as they are [A]."""
    ids, by_aux_id = _member_ids(call, await call.body())
    chat = call.chat(to_change=True)
    require_may_add_members(chat, call.user)
    people = call.people(ids, by_aux_id=by_aux_id)
    call.state.store.add_members(chat, call.user, people)
    return json_answer({})


async def remove_members(call: ApiCall) -> web.Response:
    """DELETE {group_chat}/members [V]."""
    ids, by_aux_id = _member_ids(call, await call.body())
    chat = call.chat(to_change=True)
    people = call.members(chat, ids, by_aux_id=by_aux_id)
    require_may_remove_members(chat, call.user, people)
    call.state.store.remove_members(chat, call.user, people)
    return json_answer({})


def _member_ids(call: ApiCall, body: Body) -> tuple[Sequence[str], bool]:
    by_aux_id = call.kind is not None and call.kind.is_auxiliary and body.flag("aux_members")
    return body.texts("members"), by_aux_id


async def set_owner(call: ApiCall) -> web.Response:
    """PUT {group_chat}/owner [V]; the former owner stays an admin [A]."""
    user_id = (await call.body()).text("user_id")
    chat = call.chat(to_change=True)
    require_owner(chat, call.user)
    new_owners = call.members(chat, [user_id])
    require_professionals(new_owners)
    (chat.owner,) = new_owners
    chat.admins = [admin for admin in dict.fromkeys([*chat.admins, call.user]) if admin is not chat.owner]
    return json_answer({})


async def add_admins(call: ApiCall) -> web.Response:
    """PUT {group_chat}/admins [V]: members only [A]."""
    ids = (await call.body()).texts("admins")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    people = call.members(chat, ids)
    require_professionals(people)
    chat.admins = [admin for admin in dict.fromkeys([*chat.admins, *people]) if admin is not chat.owner]
    return json_answer({})


async def remove_admins(call: ApiCall) -> web.Response:
    """DELETE {group_chat}/admins [V]; they stay members; members who are no admins are left alone [A]."""
    ids = (await call.body()).texts("admins")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    people = call.members(chat, ids)
    if chat.owner in people:
        raise precondition_failed("owner_stays", "The owner is always an admin: hand the chat over first.")
    chat.admins = [admin for admin in chat.admins if admin not in people]
    return json_answer({})


TABLE: Final[Table[ApiCall]] = (
    ("POST", "groupchats", create_group_chat),
    ("POST", "aux/groupchats", create_aux_group_chat),
    ("PUT", "{group_chat}", rename),
    ("DELETE", "{group_chat}", close_or_remove),
    ("PUT", "{group_chat}/settings", change_settings),
    ("POST", "{group_chat}/avatar", set_avatar),
    ("GET", "{group_chat}/members", list_members),
    ("PUT", "{group_chat}/members", add_members),
    ("DELETE", "{group_chat}/members", remove_members),
    ("PUT", "{group_chat}/owner", set_owner),
    ("PUT", "{group_chat}/admins", add_admins),
    ("DELETE", "{group_chat}/admins", remove_admins),
)


# --- Webhooks [V: from a third party's program on the vendor's SDK; not documented].


@define(eq=False)
class Hooks:
    """Announces new messages in group chats to programs on this machine. Other URLs are not called."""

    _calls: set[asyncio.Task[None]] = field(factory=set, init=False)

    def announce(self, chat: StoredChat, message: StoredMessage) -> None:
        """Announce a new message to the URLs of its chat, without its text."""
        document = {"user_id": message.sender.id, "groupchat_id": chat.id, "message_id": message.id}
        for url in filter(_is_local, chat.hooks):
            call = asyncio.get_running_loop().create_task(_post(url, document))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """End the calls that are running."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)


async def _post(url: str, document: dict[str, str]) -> None:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    with suppress(aiohttp.ClientError, OSError):
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=document, allow_redirects=False),
        ):
            pass


def _is_local(url: str) -> bool:
    try:
        host = URL(url).host or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def create_hook(call: ApiCall) -> web.Response:
    """POST groupchats/{id}/hooks [V]; that admins alone may do so, and the answer, is assumed [A]."""
    body = await call.body()
    event, method, url = body.text("event_name"), body.text("method"), body.text("url")
    if event != _EVENT or method.upper() != "POST" or not url.startswith(("http://", "https://")):
        raise bad_request(f"Only {_EVENT} is announced, by POST to an http or https URL.")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    chat.hooks.append(url)
    return json_answer({"id": call.state.store.new_id()}, status=201)


HOOKS: Final[Table[ApiCall]] = (("POST", "{group_chat}/hooks", create_hook),)
"""Neither in the SDK nor in the description of the API, because too little is known of them."""
