"""What people do who do not call the API: tests, and the sandbox's page, act for them."""

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import field, frozen

from healthmsg.ids import ChatAddress
from healthmsg.sandbox import hub
from healthmsg.sandbox.content import MadeUp
from healthmsg.sandbox.endpoints.users import VerificationRequest
from healthmsg.sandbox.questions import answer_question
from healthmsg.sandbox.records import Person, StoredChat, StoredMessage
from healthmsg.sandbox.store import Store, known

_ANY_TYPE: Final = "application/octet-stream"


@frozen
class SandboxFile:
    """A file that a person in the sandbox sends.

    The name can be anything, even a hostile path. A number as the content makes a file of so many bytes,
    which are made up while they are read; `announced_size` is shown instead of the real size.
    """

    name: str = field(repr=False)
    content: bytes | int = field(repr=False)
    mime_type: str = _ANY_TYPE
    announced_size: int | None = None


@frozen(eq=False)
class OtherSide:
    """Lets each person of a sandbox act. All of it is announced, as what calls do is.

    Where the person is `None`, the first member acts who is not the main user, or the one who was asked.
    """

    store: Store
    main_user: Person

    def chat(self, address: ChatAddress | str) -> StoredChat:
        """Find a chat by its address, as the main user sees it, or by its own id alone.

        Raises:
            KeyError: there is no such chat.
            InvalidIdError: this is no address.
        """
        if isinstance(address, str):
            found = self.store.chats.get(address)
            if found is not None:
                return found
            address = ChatAddress.parse(address)
        return known(self.store.chat(address.kind, address.id, self.main_user), "chat")

    def say(
        self, person: Person | None, chat: StoredChat, text: str, files: Iterable[SandboxFile] = ()
    ) -> StoredMessage:
        """Send a message.

        Raises:
            ValueError: there is neither text nor a file, this person is not in the chat, or it is closed.
        """
        sent = list(files)
        if not text and not sent:
            raise ValueError("a message needs a text or a file")
        sender = self._member(person, chat)
        stored = [
            self.store.new_file(
                file.name,
                file.mime_type,
                MadeUp(file.content) if isinstance(file.content, int) else file.content,
                announced_size=file.announced_size,
            )
            for file in sent
        ]
        return self.store.post(chat, sender, text, files=stored)

    def answer(self, person: Person | None, message_id: str, options: Sequence[str]) -> None:
        """Choose options of a question, in place of those that the same person chose before [A].

        Raises:
            KeyError: there is no such message.
            ValueError: it is no question, it is not for this person, these options cannot be chosen, or the
                chat is closed.
        """
        chat, message = self._message(message_id)
        self.store.hub.announce(answer_question(chat, message, options, person))

    def verify(self, person: Person | None, message_id: str, *, accepted: bool = True) -> None:
        """Let the person of a request for verification be verified, or refuse.

        Raises:
            KeyError: there is no such message.
            ValueError: it is no request for verification, it is not for this person, or the chat is closed.
        """
        chat, message = self._message(message_id)
        request = message.payload
        if not isinstance(request, VerificationRequest):
            raise ValueError("this message is no request for verification")  # noqa: TRY004 - it is an id
        if person is not None and person is not request.person:
            raise ValueError("this request for verification is not for that user")
        if accepted and request.provider in request.person.providers_left:
            request.person.verified_by.append(request.provider)
        request.accepted = accepted
        answer = hub.verification_answered(chat, message, request.person, accepted=accepted)
        self.store.hub.announce(answer)

    def type(self, person: Person | None, chat: StoredChat, *, stopped: bool = False) -> None:
        """Begin to type in a chat, or stop.

        Raises:
            ValueError: this person is not in the chat, or it is closed.
        """
        self.store.hub.announce(hub.typing(chat, self._member(person, chat), stopped=stopped))

    def _member(self, person: Person | None, chat: StoredChat) -> Person:
        _check_open(chat)
        person = chat.other_side(self.main_user) if person is None else person
        if person not in chat.members:
            raise ValueError("this user is not in that chat")
        return person

    def _message(self, message_id: str) -> tuple[StoredChat, StoredMessage]:
        chat, message = known(self.store.message(message_id), "message")
        _check_open(chat)
        return chat, message


def _check_open(chat: StoredChat) -> None:
    if chat.closed:
        raise ValueError("this chat is closed")
