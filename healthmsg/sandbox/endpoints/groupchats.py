"""Group chats: started, renamed, set up, closed and removed."""

from typing import Final

from aiohttp import web
from attrs import fields

from healthmsg.sandbox.answers import bad_request, json_answer, precondition_failed
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.forms import read_form, the_only_file
from healthmsg.sandbox.groups import find_people, require_admin, require_owner, require_professionals
from healthmsg.sandbox.invites import invite_all, read_group_invite
from healthmsg.sandbox.records import GroupSettings
from healthmsg.sandbox.routing import Table


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
    members = find_people(store, member_ids)
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
    chat.closed = True
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
    picture = the_only_file((await read_form(call.request, call.state.store, files_part="avatar")).files)
    # Again: things may have changed while the file came in.
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    chat.avatar = call.state.publish(picture)
    return json_answer({})


def _changed(settings: GroupSettings, body: Body) -> GroupSettings:
    """Give the settings with those that were sent in their place."""
    return GroupSettings(
        allow_contacts=body.flag("allow_contacts", default=settings.allow_contacts),
        auto_close_after=body.number("auto_close_after", default=settings.auto_close_after),
        auto_expire_after=body.number("auto_expire_after", default=settings.auto_expire_after),
        hybrid_messaging=body.flag("hybrid_messaging", default=settings.hybrid_messaging),
        members_can_invite=body.flag("members_can_invite", default=settings.members_can_invite),
    )


TABLE: Final[Table[ApiCall]] = (
    ("POST", "groupchats", create_group_chat),
    ("POST", "aux/groupchats", create_aux_group_chat),
    ("PUT", "{group_chat}", rename),
    ("DELETE", "{group_chat}", close_or_remove),
    ("PUT", "{group_chat}/settings", change_settings),
    ("POST", "{group_chat}/avatar", set_avatar),
)
