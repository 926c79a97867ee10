"""The chat handles: everything one can do in a chat, written once for all four kinds."""

import asyncio
import os
from pathlib import Path

from healthmsg.addresses import ChatAddress
from healthmsg.codec import encode
from healthmsg.errors import EmptyMessageError, InvalidInputError
from healthmsg.files import FileToUpload, prepare
from healthmsg.models import Attachment, ConversationInfo, GroupChatInfo, Message, SentMessage
from healthmsg.paging import PAGE_SIZE, Pager, check_page_size
from healthmsg.pipeline.exchange import Content, Multipart
from healthmsg.resources.api import Api
from healthmsg.resources.downloads import Download
from healthmsg.routes import (
    GET_ATTACHMENT,
    GET_CHAT,
    GET_MESSAGE,
    LIST_MESSAGES,
    SEND_MESSAGE,
    UPLOAD_FILES,
)


class BaseChat:
    """What every chat can do. Making a handle sends nothing: it only knows the address."""

    __slots__ = ("_api", "address")

    def __init__(self, api: Api, address: ChatAddress) -> None:
        self._api = api
        self.address = address

    @property
    def id(self) -> str:
        """The id, or the auxiliary id, under which the chat is addressed."""
        return self.address.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.kind.template}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseChat) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    async def send(self, body: str) -> SentMessage:
        """Send a text message. Contract: `POST {chat}/messages` [V].

        Raises:
            EmptyMessageError: `body` has nothing to read.
            DeliveryUnknownError: it may have been delivered, and was not sent again.
        """
        if not check_body(body).strip():
            raise EmptyMessageError("a message needs a text, or files")
        content = Content("application/json", encode({"body": body}))
        return await self._api.post(SEND_MESSAGE, self.address, content)

    async def upload(self, *files: FileToUpload, message: str = "") -> SentMessage:
        """Send files as one message, with an optional text. Contract: `POST {chat}/attachments` [V].

        Raises:
            InvalidFileError: names every file that is missing, empty, unreadable or a folder.
            EmptyMessageError: no file is given.
            UploadFileError: a file changed or failed while it was sent; nothing was delivered.
            DeliveryUnknownError: it may have been delivered, and was not sent again.
        """
        encode(check_body(message))
        if not files:
            raise EmptyMessageError("an upload needs at least one file")
        parts = await asyncio.to_thread(prepare, files, field_name="files")
        return await self._api.post(UPLOAD_FILES, self.address, Multipart((("message", message),), parts))

    def messages(self, *, page_size: int = PAGE_SIZE) -> Pager[Message]:
        """Read the messages, newest first. Contract: `GET {chat}/messages` [A]."""
        amount = str(check_page_size(page_size))

        async def fetch(page: int) -> tuple[Message, ...]:
            query = {"page": str(page), "amount": amount}
            return await self._api.read(tuple[Message, ...], LIST_MESSAGES, self.address, query)

        return Pager(fetch, self._api.spawn)

    async def message(self, message_id: str | Message) -> Message:
        """Read one message. Contract: `GET {chat}/messages/{id}` [V]."""
        wanted = message_id.id if isinstance(message_id, Message) else message_id
        return await self._api.read(Message, GET_MESSAGE, self.address, message_id=wanted)

    async def download(
        self, attachment: Attachment | str, *, to: str | os.PathLike[str], overwrite: bool = False
    ) -> Path:
        """Write an attachment to a file, and give the file's path. Contract: `GET {chat}/attachments/…` [V].

        `to` is a file, or a folder that exists: then the attachment's name is used, made safe. The file
        appears when it is complete.

        Raises:
            FileExistsError: the file exists, and `overwrite` was not asked for.
            DownloadError: the link or what it led to is not acceptable.
        """
        known = attachment if isinstance(attachment, Attachment) else None
        attachment_id = attachment.id if isinstance(attachment, Attachment) else attachment
        request = self._api.request(GET_ATTACHMENT, self.address, attachment_id=attachment_id)
        return await Download(self._api, request, known).to_file(Path(to), overwrite=overwrite)


class Chat(BaseChat):
    """A 1-on-1 conversation."""

    __slots__ = ()

    async def get(self) -> ConversationInfo:
        """Read what the service says of it. Contract: `GET {chat}` [V]."""
        return await self._api.read(ConversationInfo, GET_CHAT, self.address)


class GroupChat(BaseChat):
    """A group chat."""

    __slots__ = ()

    async def get(self) -> GroupChatInfo:
        """Read what the service says of it. Contract: `GET {chat}` [V]."""
        return await self._api.read(GroupChatInfo, GET_CHAT, self.address)


def handle(api: Api, address: ChatAddress) -> Chat | GroupChat:
    """Make the handle for an address."""
    return (GroupChat if address.kind.is_group else Chat)(api, address)


def check_body(body: object) -> str:
    """Refuse a message's text that is not text.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(body, str):
        raise InvalidInputError(f"a message's text must be text, not {type(body).__name__}")
    return body
