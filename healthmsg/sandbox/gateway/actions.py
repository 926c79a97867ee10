"""What a client can ask for over the gateway: chats to hear of, messages, typing, presence.

Contract: "The gateway", client to server. Where the contract names no error, code and words are those that a
call gets [A].
"""

from collections.abc import Callable, Mapping
from typing import Final

from attrs import define, field

from healthmsg.ids import ChatKind
from healthmsg.sandbox import hub
from healthmsg.sandbox.call import ApiError, Body, bad_request, forbidden
from healthmsg.sandbox.gateway.frames import frame
from healthmsg.sandbox.records import JSON, Person, StoredChat
from healthmsg.sandbox.state import Grant, State

MESSAGES: Final = frozenset({"conversation_new_message", "groupchat_new_message"})
"""The events that count as messages, of which fewer are allowed [D]."""
_STATUSES: Final = ("online", "busy", "away", "offline")


@define(eq=False)
class Member:
    """The user of one connection, and the group chats that it subscribed to."""

    state: State
    person: Person
    grant: Grant = field(repr=False)
    subscribed: set[str] = field(factory=set, init=False)

    def carry_out(self, name: str, data: Body) -> str | None:
        """Carry an event of the client's out; return the frame that answers it, if there is one.

        Raises:
            ApiError: it cannot be done.
        """
        action = _ACTIONS.get(name)
        if action is None:
            raise bad_request("There is no such event.")
        if "write" not in self.grant.scopes and action not in (_subscribe, _unsubscribe):
            raise ApiError(403, "insufficient_scope", "This needs the scope write.")  # as a call does [A]
        return action(self, data)

    def has_whole(self, chat: StoredChat | None) -> bool:
        """Return whether the messages of a chat come with their text."""
        if chat is None or not chat.is_group or not self.state.options.habits.needs_subscription:
            return True
        return chat.id in self.subscribed

    def chat(self, data: Body, kind: ChatKind, *, to_change: bool = True) -> StoredChat:
        """Return the chat that an event names; 304 [D] if it is closed and `to_change`."""
        chat_id = data.text(_FIELDS[kind])
        store, what = self.state.store, _FIELDS[kind].removesuffix("_id")
        chat = store.chat(kind, chat_id, self.person)
        if chat is None or self.person not in chat.members:
            raise ApiError(404, f"{what}_not_found", "There is no such chat for this user.")
        if chat.closed and to_change:
            raise ApiError(304, f"{what}_is_closed", "This chat is closed.")
        return chat


_FIELDS: Final[Mapping[ChatKind, str]] = {
    ChatKind.CONVERSATION: "conversation_id",
    ChatKind.GROUP_CHAT: "groupchat_id",
}


def chat_in(data: Body) -> JSON:
    """Return the group chat that an error concerns, as the error names it [V]; a conversation, too [A]."""
    return {name: data.optional_text(name) for name in _FIELDS.values() if data.has(name)}


def _subscribe(member: Member, data: Body) -> str:
    chat = member.chat(data, ChatKind.GROUP_CHAT)
    member.subscribed.add(chat.id)
    return frame("groupchat_subscribed", {"groupchat_id": chat.id})


def _unsubscribe(member: Member, data: Body) -> str:
    chat = member.chat(data, ChatKind.GROUP_CHAT, to_change=False)
    member.subscribed.discard(chat.id)
    return frame("groupchat_unsubscribed", {"groupchat_id": chat.id})


def _send_to_group(member: Member, data: Body) -> None:
    body = data.text("body", may_be_blank=not data.strict)
    member.state.store.post(member.chat(data, ChatKind.GROUP_CHAT), member.person, body)


def _send_to_conversation(member: Member, data: Body) -> None:
    """Send; the first message to a user id starts the conversation, as a call does [A]."""
    body = data.text("body", may_be_blank=not data.strict)
    store, person = member.state.store, member.person
    other = store.people.get(data.text("conversation_id"))
    if other is not None and other is not person:
        store.start_conversation(person, other)
    store.post(member.chat(data, ChatKind.CONVERSATION), person, body)


def _typing(*, stopped: bool) -> Callable[[Member, Body], None]:
    def announce(member: Member, data: Body) -> None:
        named = [kind for kind, name in _FIELDS.items() if data.has(name)]
        if len(named) != 1:
            raise bad_request("Either conversation_id or groupchat_id is needed.")
        chat = member.chat(data, named[0])
        member.state.store.hub.announce(hub.typing(chat, member.person, stopped=stopped))

    return announce


def _change_presence(member: Member, data: Body) -> None:
    status = data.text("status")
    if status not in _STATUSES:
        raise bad_request(f"status must be one of {', '.join(_STATUSES)}.")
    store, person = member.state.store, member.person
    person.presence = status
    store.hub.announce(hub.presence(person, status, store.contacts_of(person)))


_ACTIONS: Final[Mapping[str, Callable[[Member, Body], str | None]]] = {
    "groupchat_subscribe": _subscribe,
    "groupchat_unsubscribe": _unsubscribe,
    "conversation_new_message": _send_to_conversation,
    "groupchat_new_message": _send_to_group,
    "typing": _typing(stopped=False),
    "stop_typing": _typing(stopped=True),
    "presence_update": _change_presence,
}


def authenticated(state: State, name: str, data: Body) -> Member:
    """Return the user that a handshake names.

    Raises:
        ApiError: it is no handshake, or the token is not valid any more: code 403 [V].
    """
    if name != "handshake":
        raise bad_request("The first event must be a handshake.")
    token = data.text("token")
    properties = data.optional_object("properties")
    if data.strict and properties is None:
        raise bad_request("properties are missing.")
    for property_name in ("os", "browser", "device", "version"):
        if properties is not None:
            properties.optional_text(property_name)
    grant = state.tokens.known(token)
    if grant is None or not state.tokens.is_valid(token):
        raise ApiError(403, "invalid_token", "The token is unknown, expired or revoked.")
    if "read" not in grant.scopes:
        raise forbidden("This needs the scope read.")
    return Member(state, state.store.people[grant.user_id], grant)
