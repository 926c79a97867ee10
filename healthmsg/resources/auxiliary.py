"""`client.auxiliary`: the same things, under the integrator's own ids."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Literal

from healthmsg.api import Api, Resource, json_body, reserved_for_group_chat
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.ids import ChatKind, check_aux_id
from healthmsg.models import ConversationInfo, GroupChatInfo, GroupInvite, GroupSettings, User
from healthmsg.resources.chat import Chat, ChatNamespace
from healthmsg.resources.group_chat import GroupChat
from healthmsg.resources.groupchats import create_group_chat, new_group_chat
from healthmsg.routes import (
    CREATE_AUX_GROUP_CHAT,
    GET_AUX_USER,
    LIST_AUX_CONVERSATIONS,
    LIST_AUX_GROUP_CHATS,
)
from healthmsg.validation import check_all, check_choice


class AuxiliaryUsers(Resource):
    """Users by auxiliary id."""

    async def get(self, aux_id: str) -> User:
        """Read the user who has this auxiliary id. Contract: `GET aux/users/{aux_id}` [V].

        Raises:
            AmbiguousAuxIdError: it has a diacritic; see there.
            NotFoundError: no user has it, or none that this user may see.
        """
        user = await self._api.read(User, GET_AUX_USER, aux_id=aux_id)
        self._api.aliases.learn_user_of_aux_id(aux_id, user.id)
        return user


class AuxiliaryConversations(ChatNamespace[ConversationInfo, Chat]):
    """1-on-1 conversations by auxiliary id."""

    _kind = ChatKind.AUX_CONVERSATION
    _list_route = LIST_AUX_CONVERSATIONS
    _info = ConversationInfo
    _handle = Chat


class AuxiliaryGroupChats(ChatNamespace[GroupChatInfo, GroupChat]):
    """Group chats by auxiliary id."""

    _kind = ChatKind.AUX_GROUP_CHAT
    _list_route = LIST_AUX_GROUP_CHATS
    _info = GroupChatInfo
    _handle = GroupChat

    @hides_awaited_arguments
    async def create(  # noqa: PLR0913 - what a group chat is made of, by keyword
        self,
        *,
        aux_id: str,
        subject: str,
        members: Iterable[str | User] = (),
        invite_users: Iterable[GroupInvite] = (),
        settings: GroupSettings | None = None,
        send_email: bool = True,
        if_taken: Literal["error", "share"] = "error",
    ) -> GroupChat:
        """Create a group chat with an auxiliary id. Contract: `POST aux/groupchats` [V].

        As several group chats can silently have one auxiliary id [D], it is looked up first; that cannot see
        what another program does at the same moment, nor a chat that is not visible to this user.
        `if_taken="share"` does not look: then both may have it, and which of them the id leads to is not
        known. So the handle that is returned has the new chat's own id. All else as `groupchats.create`.

        Raises:
            AuxIdTakenError: a group chat has this auxiliary id, or a user has that of an invitation. Nothing
                was created.
        """
        check_choice(if_taken, "if_taken", ("error", "share"))
        invitations = check_all(invite_users, GroupInvite, "invite_users")
        document = {
            **new_group_chat(subject, members, invitations, settings, send_email=send_email),
            "aux_id": check_aux_id(aux_id),
            "aux_members": any(invitation.aux_id is not None for invitation in invitations),
        }
        body = json_body(document)
        async with reserved_for_group_chat(self._api, aux_id) if if_taken == "error" else nullcontext():
            created = await create_group_chat(self._api, CREATE_AUX_GROUP_CHAT, body, invitations)
        self._api.aliases.learn_group_chat(created.id, aux_id, may_be_shared=if_taken == "share")
        return created


class Auxiliary(Resource):
    """Things by auxiliary id: the integrator's own, usable only by the application that added it [D]."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.conversations: AuxiliaryConversations = AuxiliaryConversations(api)
        self.groupchats: AuxiliaryGroupChats = AuxiliaryGroupChats(api)
        self.users: AuxiliaryUsers = AuxiliaryUsers(api)
