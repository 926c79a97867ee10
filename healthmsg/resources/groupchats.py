"""`client.groupchats`: group chats."""

from collections.abc import Iterable, Sequence

from healthmsg.api import Api, Created, json_body, reserved_for_user, user_ids
from healthmsg.errors import InvalidInputError
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import GroupChatInfo, GroupInvite, GroupSettings, User
from healthmsg.pipeline.request import Content
from healthmsg.resources.chat import ChatNamespace
from healthmsg.resources.group_chat import GroupChat, check_settings
from healthmsg.routes import CREATE_GROUP_CHAT, LIST_GROUP_CHATS, Route
from healthmsg.validation import check_all, check_flag, check_text


class GroupChats(ChatNamespace[GroupChatInfo, GroupChat]):
    """The user's group chats."""

    _kind = ChatKind.GROUP_CHAT
    _list_route = LIST_GROUP_CHATS
    _info = GroupChatInfo
    _handle = GroupChat

    @hides_awaited_arguments
    async def create(
        self,
        *,
        subject: str,
        members: Iterable[str | User] = (),
        invite_users: Iterable[GroupInvite] = (),
        settings: GroupSettings | None = None,
        send_email: bool = True,
    ) -> GroupChat:
        """Create a group chat, and return its handle. Contract: `POST groupchats` [V].

        Of `settings`, only what is set is sent. `send_email` says whether members get an e-mail. An auxiliary
        id in an invitation is looked up first, since the service would silently take it away from the user
        who has it [D].

        Raises:
            InvalidInputError: something about it cannot be right. Nothing was sent.
            AuxIdTakenError: a user has the auxiliary id of an invitation. Nothing was created.
            DeliveryUnknownError: it may have been created, and was not created again.
        """
        invitations = check_all(invite_users, GroupInvite, "invite_users")
        document = new_group_chat(subject, members, invitations, settings, send_email=send_email)
        return await create_group_chat(self._api, CREATE_GROUP_CHAT, json_body(document), invitations)


def new_group_chat(
    subject: str,
    members: Iterable[str | User],
    invitations: Sequence[GroupInvite],
    settings: GroupSettings | None,
    *,
    send_email: bool,
) -> dict[str, object]:
    """Return what describes a group chat that is to be created.

    Raises:
        InvalidInputError: something about it cannot be right.
    """
    aux_ids = [invitation.aux_id for invitation in invitations if invitation.aux_id is not None]
    if len(set(aux_ids)) < len(aux_ids):
        raise InvalidInputError("two invitations have one auxiliary id, which can be one user's only")
    document: dict[str, object] = {
        "subject": check_text(subject, "subject"),
        "members": user_ids(members, "members"),
        "invite_users": invitations,
        "send_email": check_flag(send_email, "send_email"),
    }
    if settings is not None:
        document["settings"] = check_settings(settings) or None
    return document


async def create_group_chat(
    api: Api, route: Route, body: Content, invitations: Sequence[GroupInvite]
) -> GroupChat:
    """Create a group chat, unless an invitation would take an auxiliary id away from another user.

    Raises:
        AuxIdTakenError: it would. Nothing was created.
        DeliveryUnknownError: it may have been created, and was not created again.
    """
    aux_ids = [invitation.aux_id for invitation in invitations if invitation.aux_id]
    async with reserved_for_user(api, aux_ids):
        created = await api.create(Created, route, body)
    for aux_id in aux_ids:
        api.aliases.forget_user_of_aux_id(aux_id)
    return GroupChat(api, ChatAddress(ChatKind.GROUP_CHAT, created.id))
