"""The handle of a group chat: what one can do there beyond what every chat can."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING

from healthmsg.api import Api, json_body, user_id, user_ids
from healthmsg.errors import InvalidInputError
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.ids import ChatAddress, check_aux_id
from healthmsg.models import GroupChatInfo, GroupSettings, Member, User
from healthmsg.pipeline.request import Multipart
from healthmsg.resources.chat import BaseChat, Chat
from healthmsg.routes import (
    ADD_ADMINS,
    ADD_MEMBERS,
    CHANGE_SETTINGS,
    CLOSE_GROUP_CHAT,
    GET_CHAT,
    LIST_MEMBERS,
    REMOVE_ADMINS,
    REMOVE_MEMBERS,
    RENAME_GROUP_CHAT,
    SET_AVATAR,
    SET_OWNER,
    Route,
)
from healthmsg.transfer import Meter
from healthmsg.validation import check_count, check_flag, check_text

if TYPE_CHECKING:
    from healthmsg.files import FileToUpload


class GroupChat(BaseChat):
    """A group chat.

    A method that changes it raises `DeliveryUnknownError` when the change may have been made. `rename`,
    `configure`, `add_members` and `add_admins` are tried again first, since a repetition does no harm.
    """

    __slots__ = ()

    async def get(self) -> GroupChatInfo:
        """Read what the service says of it. Contract: `GET {chat}` [V]."""
        info = await self._api.read(GroupChatInfo, GET_CHAT, self.address)
        self._api.aliases.learn_info(info, self.address.text)
        return info

    async def members(self) -> tuple[Member, ...]:
        """Read who takes part. Contract: `GET groupchats/{id}/members` [V]."""
        return await self._api.read(tuple[Member, ...], LIST_MEMBERS, self.address)

    async def add_members(self, users: Iterable[str | User], *, by_aux_id: bool = False) -> None:
        """Add users to the chat. Contract: `PUT groupchats/{id}/members` [V].

        `by_aux_id` says that `users` are auxiliary ids. It goes with a chat that is itself addressed by its
        auxiliary id only, and the vendor's client never does so [A].
        """
        await self._change_members(ADD_MEMBERS, users, by_aux_id=by_aux_id)

    async def remove_members(self, users: Iterable[str | User], *, by_aux_id: bool = False) -> None:
        """Remove users from the chat. Contract: `DELETE groupchats/{id}/members` [V].

        `by_aux_id` as in `add_members`.
        """
        await self._change_members(REMOVE_MEMBERS, users, by_aux_id=by_aux_id)

    @hides_awaited_arguments
    async def rename(self, subject: str) -> None:
        """Change the subject. Contract: `PUT groupchats/{id}` [V]."""
        await self._change(RENAME_GROUP_CHAT, subject=check_text(subject, "subject"))

    async def configure(self, settings: GroupSettings) -> None:
        """Change the settings that are set in `settings`. Contract: `PUT groupchats/{id}/settings` [V].

        What is in its `extra` is not sent.

        Raises:
            InvalidInputError: no setting is set, or one cannot be right.
        """
        chosen = check_settings(settings)
        if not chosen:
            raise InvalidInputError("no setting is set")
        await self._api.change(CHANGE_SETTINGS, self.address, json_body(chosen))

    async def set_owner(self, user: str | User) -> None:
        """Hand the chat over to a member. Contract: `PUT groupchats/{id}/owner` [V]."""
        await self._change(SET_OWNER, user_id=user_id(user))

    async def add_admins(self, users: Iterable[str | User]) -> None:
        """Make members admins. Contract: `PUT groupchats/{id}/admins` [V]."""
        await self._change(ADD_ADMINS, admins=_at_least_one(users))

    async def remove_admins(self, users: Iterable[str | User]) -> None:
        """Make admins ordinary members. Contract: `DELETE groupchats/{id}/admins` [V]."""
        await self._change(REMOVE_ADMINS, admins=_at_least_one(users))

    def set_avatar(self, file: "FileToUpload") -> Coroutine[object, object, None]:
        """Set the chat's picture. Contract: `POST groupchats/{id}/avatar` [V].

        The file is sent as it is now, when this is called.

        Raises:
            InvalidFileError: the file is missing, empty, unreadable, a folder, no regular file, or without a
                usable name, or was changed since this was called.
            UploadFileError: the file changed or failed while it was sent.
        """
        from healthmsg.files import take_now  # noqa: PLC0415 - programs without files start faster

        return self._set_avatar(take_now([file]))

    async def _set_avatar(self, files: "Sequence[FileToUpload]") -> None:
        from healthmsg.files import file_parts  # noqa: PLC0415 - as in set_avatar

        async with file_parts(files, field_name="avatar", meter=Meter(None)) as parts:
            await self._api.change(SET_AVATAR, self.address, Multipart((), parts))

    async def close(self, *, send_email: bool) -> None:
        """Close the chat for all members; it can be read, and no longer written in.

        Contract: `DELETE groupchats/{id}` [V]. `send_email` says whether the members get an e-mail.
        """
        await self._change(CLOSE_GROUP_CHAT, send_email=check_flag(send_email, "send_email"))

    async def remove(self, *, send_email: bool) -> None:
        """Remove the chat for all members, with all that is in it.

        Contract: `DELETE groupchats/{id}` with `remove` [V]. `send_email` as in `close`.
        """
        await self._change(CLOSE_GROUP_CHAT, send_email=check_flag(send_email, "send_email"), remove=True)

    async def _all_members(self) -> tuple[User, ...]:
        return await self.members()

    async def _change(self, route: Route, **document: object) -> None:
        await self._api.change(route, self.address, json_body(document))

    async def _change_members(self, route: Route, users: Iterable[str | User], *, by_aux_id: bool) -> None:
        document: dict[str, object] = {}
        check_flag(by_aux_id, "by_aux_id")
        if self.address.kind.is_auxiliary:
            document["aux_members"] = by_aux_id
        elif by_aux_id:
            raise InvalidInputError("by_aux_id goes with a chat under client.auxiliary.groupchats only")
        document["members"] = _at_least_one(users, check_aux_id if by_aux_id else user_id)
        await self._change(route, **document)


def check_settings(settings: GroupSettings) -> dict[str, bool | int]:
    """Return the settings that are set.

    Raises:
        InvalidInputError: one is no true or false, or no whole number of at least 0.
    """
    if not isinstance(settings, GroupSettings):
        raise InvalidInputError("settings must be GroupSettings")
    flags = ("allow_contacts", "hybrid_messaging", "members_can_invite")
    numbers = ("auto_close_after", "auto_expire_after")
    chosen = {
        name: getattr(settings, name) for name in flags + numbers if getattr(settings, name) is not None
    }
    for name, value in chosen.items():
        if name in flags:
            check_flag(value, name)
        else:
            check_count(value, name)
    return chosen


def _at_least_one(users: Iterable[str | User], id_of: Callable[[str | User], str] = user_id) -> list[str]:
    ids = user_ids(users, "users", id_of)
    if not ids:
        raise InvalidInputError("users is empty")
    return ids


def handle(api: Api, address: ChatAddress) -> Chat | GroupChat:
    """Return the handle for an address."""
    return (GroupChat if address.kind.is_group else Chat)(api, address)
