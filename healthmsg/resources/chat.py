"""The chat handles, and the namespaces that make them: written once for all four kinds of chat."""

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from healthmsg.aio import together
from healthmsg.api import Api, Resource, json_body, user_id, user_ids
from healthmsg.api import user_id as id_of_user
from healthmsg.codec import encode
from healthmsg.errors import (
    BadRequestError,
    EmptyMessageError,
    ForbiddenError,
    InvalidIdError,
    InvalidInputError,
    NotFoundError,
)
from healthmsg.ids import ChatAddress, ChatKind, encode_segment, exact_aux_id
from healthmsg.live import Typing
from healthmsg.models import (
    Attachment,
    ConversationInfo,
    GroupChatInfo,
    IdentityProvider,
    Message,
    Option,
    SentMessage,
    User,
)
from healthmsg.models.users import EVERYBODY
from healthmsg.paging import PAGE_SIZE, Pager
from healthmsg.pipeline.request import Content, Hidden, Multipart, Request
from healthmsg.routes import (
    GET_CHAT,
    GET_MESSAGE,
    GET_PDF,
    GET_USER,
    LIST_MESSAGES,
    REQUEST_VERIFICATION,
    SEND_MESSAGE,
    UPLOAD_FILES,
    Route,
)
from healthmsg.transfer import Meter, Progress
from healthmsg.validation import (
    check_all,
    check_body,
    check_choice,
    check_count,
    check_flag,
    check_moment,
    require_non_blank,
)

if TYPE_CHECKING:
    from healthmsg.downloads.attachments import DownloadAll
    from healthmsg.downloads.download import Download, FileStream
    from healthmsg.downloads.export import Export
    from healthmsg.files import FileToUpload

# Bytes.
_LARGEST_TO_READ: Final = 10 * 1024 * 1024


Style = Literal["horizontal", "vertical"]
"""Whether a question's buttons stand beside or below one another."""

Mentions = Message | Iterable[User]
"""A message, or its mentions."""


class BaseChat:
    """What every chat can do. Making a handle sends nothing: it only knows the address."""

    __slots__ = ("_api", "address")

    def __init__(self, api: Api, address: ChatAddress) -> None:
        self._api = api
        self.address: ChatAddress = address

    @property
    def id(self) -> str:
        """The id, or the auxiliary id, under which the chat is addressed."""
        return self.address.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.shown}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseChat) and self.address == other.address and belongs_to(self, other._api)

    def __hash__(self) -> int:
        return hash(self.address)

    async def send(self, body: str) -> SentMessage:
        """Send a text message. Contract: `POST {chat}/messages` [V].

        Raises:
            EmptyMessageError: `body` has nothing to read.
            DeliveryUnknownError: it may have been delivered, and was not sent again.
        """
        content, said = Content("application/json", encode({"body": require_non_blank(body)})), Hidden(body)
        del body  # a traceback shows the local variables of this frame
        return await self._api.say(SEND_MESSAGE, content, self.address, said=said)

    def typing(self) -> Typing:
        """Say that the user types, as long as the answer is entered: `async with chat.typing():`.

        It goes over the gateway, so a stream of `client.events()` must be open, and is dropped while there is
        no connection. Contract: `typing`, `stop_typing` [V].

        Raises:
            ConfigurationError: on entering it: no stream of events is open, or the chat has an auxiliary id,
                which the gateway does not know.
        """
        return Typing(self._api.live, self.address)

    async def ask(
        self,
        body: str,
        *,
        options: Iterable[Option],
        users: Iterable[str | User] = (),
        multi_answer: bool = False,
        style: Style = "horizontal",
    ) -> SentMessage:
        """Send a question with buttons. Contract: `POST {chat}/messages` with `question` [V].

        `users` are asked; if there are none, it is not known who is [A]. With `multi_answer`, more than one
        option can be chosen.

        Raises:
            EmptyMessageError: `body` has nothing to read.
            InvalidInputError: there is no option, or two have one name.
            DeliveryUnknownError: it may have been delivered, and was not sent again.
        """
        question = question_json(options, users, multi_answer=multi_answer, style=style)
        content, said = json_body({"body": require_non_blank(body), "question": question}), Hidden(body)
        del body, options, question
        return await self._api.say(SEND_MESSAGE, content, self.address, said=said)

    def upload(
        self, *files: "FileToUpload", body: str = "", progress: Progress | None = None
    ) -> Coroutine[object, object, SentMessage]:
        """Send files as one message, with an optional text. Contract: `POST {chat}/attachments` [V].

        The files are sent as they are now, when this is called: one that changes before it was sent is
        refused. `progress` gets the bytes that were handed to the network, and those in all (`None` while
        that is not known). A further try starts from 0 again.

        Raises:
            InvalidFileError: names every file that is missing, empty, unreadable, a folder, no regular file,
                or without a usable name, or was changed since this was called.
            EmptyMessageError: no file is given.
            InvalidInputError: `progress` cannot be called.
            UploadFileError: a file changed or failed while it was sent; nothing was delivered.
            DeliveryUnknownError: it may have been delivered, and was not sent again.
        """
        from healthmsg.files import take_now  # noqa: PLC0415 - programs without files start faster

        # Not only when the coroutine runs: by then the program may have written another file there.
        return self._upload(take_now(files), Hidden(body), progress)

    async def _upload(
        self, files: "Sequence[FileToUpload]", said: Hidden, progress: Progress | None
    ) -> SentMessage:
        from healthmsg.files import file_parts  # noqa: PLC0415 - as in upload

        meter = Meter(progress)
        async with file_parts(files, field_name="files", meter=meter) as parts:
            encode(check_body(said.text))
            if not files:
                raise EmptyMessageError("an upload needs at least one file")
            form = Multipart((("message", said.text),), parts)
            sent = await self._api.say(UPLOAD_FILES, form, self.address, said=said)
        meter.finish()
        return sent

    def messages(self, *, limit: int | None = None, page_size: int = PAGE_SIZE) -> Pager[Message]:
        """Read the messages, newest first; with `limit`, so many at most.

        Contract: `GET {chat}/messages` [A].

        Raises:
            InvalidInputError: `limit` or `page_size` is not a whole number of at least 1.
        """
        return self._api.pages(Message, LIST_MESSAGES, self.address, page_size=page_size, limit=limit)

    async def message(self, message_id: str | Message | SentMessage) -> Message:
        """Read one message. Contract: `GET {chat}/messages/{id}` [V]."""
        wanted = message_id.id if isinstance(message_id, Message | SentMessage) else message_id
        return await self._api.read(Message, GET_MESSAGE, self.address, message_id=wanted)

    async def download(
        self,
        attachment: Attachment | str,
        *,
        to: str | os.PathLike[str],
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write an attachment to a file, and return its path. Contract: `GET {chat}/attachments/…` [V].

        `to` is a file, or a folder: one that exists, or text that ends with a slash, which is made unless it
        exists. In a folder, the attachment's name is used, made safe, and with a number if it is taken. The
        file appears when it is complete, readable by its owner alone. A transfer that breaks is continued
        where the service allows that [A], as often as `Retries` say.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            DownloadError: the link or what it led to is not acceptable.
            OSError: the file cannot be written.
            InvalidInputError: `progress` cannot be called.
        """
        meter = Meter(progress)
        download = self._file_of(attachment)
        size = attachment.size if isinstance(attachment, Attachment) else None
        path = await download.to_file(to, overwrite=overwrite, transfer=meter.begin(size))
        meter.finish()
        return path

    def download_stream(self, attachment: Attachment | str) -> "FileStream":
        """Return an attachment to be read piece by piece; nothing is sent yet. Contract: as `download`.

        Iterate it, within `async with` if you may leave early. Errors are raised while it is iterated.
        """
        return self._file_of(attachment).stream()

    async def download_bytes(
        self, attachment: Attachment | str, *, max_bytes: int = _LARGEST_TO_READ
    ) -> bytes:
        """Return a small attachment whole, of at most `max_bytes`. Contract: as `download`.

        Raises:
            InvalidInputError: `max_bytes` is not a whole number of at least 0.
            DownloadError: it is larger, or the link or what it led to is not acceptable.
        """
        check_count(max_bytes, "max_bytes")
        return await self._file_of(attachment).read(max_bytes=max_bytes)

    async def download_pdf(
        self,
        *,
        to: str | os.PathLike[str],
        start: datetime | None = None,
        end: datetime | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write the chat as a PDF, and return the file's path. Contract: `GET {chat}/pdf` [V].

        `start` and `end` are aware and to the second; without them the whole chat is written. `to` is a file
        or a folder as in `download`; there the file is called `chat.pdf`, with a number if that is taken.

        Raises:
            InvalidInputError: a moment is not aware, or `end` lies before `start`.
            FileExistsError: the file exists, and `overwrite` is False.
            DownloadError: the link or what it led to is not acceptable.
        """
        from healthmsg.downloads.download import Download  # noqa: PLC0415 - as in upload

        query, meter = _period(start, end), Meter(progress)

        def ask() -> Request:
            request = self._api.request(GET_PDF, self.address)
            request.query = query
            return request

        download = Download(self._api, ask, name="chat.pdf")
        path = await download.to_file(to, overwrite=overwrite, transfer=meter.begin(None))
        meter.finish()
        return path

    def download_all(
        self, *, to: str | os.PathLike[str], concurrency: int = 4, progress: Progress | None = None
    ) -> "DownloadAll":
        """Download every attachment of the chat into a folder. Contract: as `messages` and `download`.

        Iterate the answer for one `DownloadResult` per attachment, newest first as they are begun, or wait
        for everything: `await chat.download_all(to=folder).all()`. The folder is made unless it exists. A
        file is named after the attachment and a part of its id; one that is there with the right size is
        skipped, and with another size downloaded again. `progress` gets the bytes of all that was begun so
        far, added up.

        Raises:
            InvalidInputError: `concurrency` is not a whole number of at least 1, or `progress` not callable.
        """
        from healthmsg.downloads.attachments import DownloadAll, attachments_of  # noqa: PLC0415 - as in upload

        api, chat = self._api, self.address
        attachments = attachments_of(api, chat)
        run = DownloadAll(api, chat, attachments, to=to, concurrency=concurrency, progress=progress)
        api.register_run(run)
        return run

    async def export(
        self, *, to: str | os.PathLike[str], concurrency: int = 4, progress: Progress | None = None
    ) -> "Export":
        """Write the archive of the chat into a folder. Contract: as `get`, `messages` and `download`.

        It has `chat.json`, what `get` returns; `messages.jsonl`, a message a line, oldest first, with every
        field that the service gave, and with each attachment's place as its `file`; and `attachments/`. The
        folder is made unless it exists. Files that are there are not downloaded again, so an export that
        broke off is continued by exporting into the same folder. `messages.jsonl` appears when all else is
        there, in place of an earlier one; files of messages that were deleted since are kept.

        The list of messages is read first, and without a pause. A message that arrives after its first page
        was read is left out. The service gives the list by pages: if a message is deleted while it is read,
        another one can be missed; export again to be certain.

        Raises:
            ExportIncompleteError: some attachments could not be downloaded; all else was done.
            InvalidInputError: the folder holds something else, such as the export of another chat, or a link
                where a file of the export goes.
            ClientUsageError: another export into the folder is under way.
        """
        from healthmsg.downloads.export import export_chat  # noqa: PLC0415 - as in upload

        return await export_chat(self._api, self.address, to=to, concurrency=concurrency, progress=progress)

    def _file_of(self, attachment: Attachment | str) -> "Download":
        from healthmsg.downloads.download import Download  # noqa: PLC0415 - as in upload

        return Download.of_attachment(self._api, self.address, attachment)

    async def request_verification(
        self, *, user_id: str | User, provider_id: str | IdentityProvider
    ) -> SentMessage:
        """Ask a user to prove who they are. Contract: `POST {chat}/verification` [V].

        `client.users.providers(…)` returns the identity providers of a user. What is returned is the message
        with the request.

        Raises:
            DeliveryUnknownError: the request may have been delivered, and was not sent again.
        """
        provider = provider_id.provider_id if isinstance(provider_id, IdentityProvider) else provider_id
        encode_segment(provider, "provider_id")
        content = json_body({"user_id": id_of_user(user_id), "provider_id": provider})
        sent = await self._api.create(SentMessage, REQUEST_VERIFICATION, content, self.address)
        self._api.deliveries.know(sent.id)
        return sent

    async def complete_mentions(
        self, mentions: Mentions, *, exclude: Iterable[str | User] = ()
    ) -> tuple[User, ...]:
        """Return all users who were mentioned, each once; those known by id alone are read from the service.

        `mentions` is a message, the text of which counts too (see `Message.mentioned`), or its mentions.
        `@all` stands for every member of a group chat. Users in `exclude`, such as yourself, are left out. A
        user who cannot be found comes with the id alone, or is left out if only the text names the id.
        """
        return await complete_mentions(self._api, mentions, exclude, self._all_members)

    async def _all_members(self) -> tuple[User, ...]:
        return ()


class Chat(BaseChat):
    """A 1-on-1 conversation."""

    __slots__ = ()

    async def get(self) -> ConversationInfo:
        """Read what the service says of it. Contract: `GET {chat}` [V]."""
        info = await self._api.read(ConversationInfo, GET_CHAT, self.address)
        self._api.aliases.learn_info(info, self.address.text, self._api.deliveries.me)
        return info


def belongs_to(chat: BaseChat, api: Api) -> bool:
    """Return whether a handle belongs to that user of that client."""
    return bool(chat._api.owner == api.owner)  # noqa: SLF001 - the handle's own module


def question_json(
    options: Iterable[Option], users: Iterable[str | User], *, multi_answer: bool, style: Style
) -> dict[str, object]:
    """Return a question as it is sent [V].

    Raises:
        InvalidInputError: there is no option, two have one name, or something else is not what it must be.
    """
    check_choice(style, "style", ("horizontal", "vertical"))
    return {
        "multi_answer": check_flag(multi_answer, "multi_answer"),
        "style": style,
        "users": user_ids(users, "users"),
        "options": _distinct(check_all(options, Option, "options")),
    }


def _distinct(options: tuple[Option, ...]) -> tuple[Option, ...]:
    if not options:
        raise InvalidInputError("a question needs at least one option")
    if len({option.name for option in options}) < len(options):
        raise InvalidInputError("two options have one name: give them names of their own, Option(…, name=…)")
    return options


def _period(start: datetime | None, end: datetime | None) -> dict[str, str]:
    moments = {
        name: check_moment(moment, name).replace(microsecond=0, tzinfo=None)
        for name, moment in (("start", start), ("end", end))
        if moment is not None
    }
    if len(moments) > 1 and moments["end"] < moments["start"]:
        raise InvalidInputError("end lies before start")
    # The vendor's client writes UTC like this [V].
    return {f"{name}_date": f"{moment.isoformat()}Z+00:00" for name, moment in moments.items()}


async def complete_mentions(
    api: Api,
    mentions: Mentions,
    exclude: Iterable[str | User],
    read_members: Callable[[], Awaitable[Iterable[User]]],
) -> tuple[User, ...]:
    """Return all who were mentioned, each once and whole; `read_members` reads those of `@all`."""
    left_out = set(user_ids(exclude, "exclude"))
    if isinstance(mentions, Message):
        mentioned, listed = mentions.mentioned, {user.id for user in mentions.mentions}
    else:
        mentioned = check_all(mentions, User, "mentions")
        listed = {user.id for user in mentioned}
    named = [user for user in mentioned if not _is_all(user)]
    if len(named) < len(mentioned):
        members = tuple(await read_members())
        listed.update(member.id for member in members)
        named += members
    found: dict[str, User] = {}
    for user in named:
        if user.id not in left_out and not _is_whole(found.get(user.id)):
            found[user.id] = user
    users = await together(_whole(api, user, is_listed=user.id in listed) for user in found.values())
    return tuple(user for user in users if user is not None)


def _is_all(user: User) -> bool:
    return user_id(user).lower() == EVERYBODY.id


def _is_whole(user: User | None) -> bool:
    return bool(user and user.first_name and user.last_name)


async def _whole(api: Api, user: User, *, is_listed: bool) -> User | None:
    if _is_whole(user):
        return user
    try:
        return await api.read(User, GET_USER, user_id=user.id)
    except NotFoundError:
        return user if is_listed else None
    except (BadRequestError, ForbiddenError):
        if is_listed:
            raise
        return None  # any text can hold something that looks like a mention


_OF_A_USER: Final = ": the conversation with a user is client.users(user).conversation()"
InfoT = TypeVar("InfoT", ConversationInfo, GroupChatInfo)
HandleT = TypeVar("HandleT", bound=BaseChat)
HandleT_co = TypeVar("HandleT_co", bound=BaseChat, covariant=True)


class _MakesHandle(Protocol[HandleT_co]):
    def __call__(self, api: Api, address: ChatAddress) -> HandleT_co: ...


class ChatNamespace(Resource, Generic[InfoT, HandleT]):
    """All chats of one kind. Calling it with an id, or a model of its kind, returns the handle of a chat."""

    _kind: ClassVar[ChatKind]
    _list_route: ClassVar[Route]
    _info: type[InfoT]
    _handle: _MakesHandle[HandleT]

    def __call__(self, chat: str | InfoT) -> HandleT:
        """Return the handle of a chat; nothing is sent.

        Raises:
            InvalidIdError: the id cannot be one, or belongs to another kind of chat.
        """
        return self._handle(self._api, self._address(chat))

    def list(self, *, limit: int | None = None, page_size: int = PAGE_SIZE) -> Pager[InfoT]:
        """Read the user's chats of this kind; with `limit`, so many at most.

        Contract: `GET` of the namespace's path [A].

        Raises:
            InvalidInputError: `limit` or `page_size` is not a whole number of at least 1.
        """
        return self._api.pages(
            self._info, self._list_route, page_size=page_size, limit=limit, look_at=self._look_at
        )

    async def get(self, chat: str | InfoT) -> InfoT:
        """Read one chat. Contract: `GET {chat}` [V]."""
        address = self._address(chat)
        info = await self._api.read(self._info, GET_CHAT, address)
        self._api.aliases.learn_info(info, address.text, self._api.deliveries.me)
        return info

    def _look_at(self, info: InfoT) -> None:
        self._api.aliases.learn_info(info, me=self._api.deliveries.me)

    def _address(self, chat: str | InfoT) -> ChatAddress:
        if isinstance(chat, str):
            return ChatAddress(self._kind, chat)
        if not isinstance(chat, self._info):
            raise InvalidIdError(
                f"a chat under {self._kind.path} is meant by its id or a {self._info.__name__},"
                f" not by a {type(chat).__name__}{_OF_A_USER if isinstance(chat, User) else ''}"
            )
        if not self._kind.is_auxiliary:
            return ChatAddress(self._kind, chat.id)
        if chat.aux_id is None:
            raise InvalidIdError("this chat has no auxiliary id")
        # The service itself gave this id, so it is meant exactly so.
        return ChatAddress(self._kind, exact_aux_id(chat.aux_id))
