"""What cannot be right is refused before anything is sent, and not repeated by the error."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import pytest
from attrs import frozen

from healthmsg import (
    Attachment,
    Client,
    ConversationInfo,
    GroupInvite,
    GroupSettings,
    IdentityProvider,
    ImportUser,
    InvalidInputError,
    Message,
    Option,
    UploadFile,
    User,
)
from healthmsg.errors import AmbiguousAuxIdError, EmptyMessageError, InvalidFileError, InvalidIdError
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat
from tests.foreign_host import ForeignHost
from tests.resources.wire_rows import Row, row

CANARY: Final = "c4nary"
HALF: Final = f"{CANARY}\ud800"
PERSON: Final[dict[str, Any]] = {"first_name": "Ann", "last_name": "X"}
INVITE, IMPORT = (
    GroupInvite(email="a@b.nl", invite_type="contact", **PERSON),
    ImportUser(email="a@b.nl", **PERSON),
)
YES: Final = Option("Ja")

NO_TEXT: Final = ("", " \n", None, 7, CANARY.encode(), [CANARY])
NO_FLAG: Final[tuple[object, ...]] = (1, 0, None, "yes", CANARY, [])
NO_USER: Final = (
    *("", ".", "..", None, 7, True, HALF, CANARY.encode(), [CANARY], {"id": CANARY}),
    *(ConversationInfo(CANARY), Message(CANARY), User(""), User(HALF)),
)
# A single one where several are meant, above all.
NO_USERS: Final = (CANARY, CANARY.encode(), User(CANARY), None, 7)
NO_AUX_ID: Final = ("", ".", "..", 7, True, HALF, CANARY.encode(), [CANARY], User(CANARY))
DIACRITICS: Final = (f"{CANARY} José", f"{CANARY} Łódź")
NO_PAGE_SIZE: Final = (0, -1, True, 2.0, "20", None)

Place = Callable[[Client], Any]
users: Place = attrgetter("users")
company: Place = attrgetter("company")


@frozen
class Case:
    """A call with one argument that cannot be right."""

    argument: str
    call: Row
    error: type[Exception]


def chat(client: Client) -> Chat:
    return client.conversations("c1")


def group(client: Client) -> GroupChat:
    return client.groupchats("g1")


def aux_group(client: Client) -> GroupChat:
    return client.auxiliary.groupchats("g1")


def refused(
    at: Place,
    method: str,
    name: str,
    values: Sequence[object],
    error: type[Exception] = InvalidInputError,
    **others: object,
) -> Iterator[Case]:
    """Return a case for each value of one argument, the others being right."""
    for value in values:
        yield Case(name, row(at, method, **{**others, name: value}), error)


def of_people() -> Iterator[Case]:
    for method in ("get", "providers", "verifications", "is_coworker"):
        yield from refused(users, method, "user", NO_USER, InvalidIdError)
    yield from refused(users, "is_verified", "user", NO_USER, InvalidIdError, provider="DigiD")
    no_provider = ("", " ", 7, None, [CANARY], IdentityProvider("p1"))
    yield from refused(users, "is_verified", "provider", no_provider, user="u1")
    aux_users: Place = attrgetter("auxiliary.users")
    yield from refused(aux_users, "get", "aux_id", (*NO_AUX_ID, None), InvalidIdError)
    yield from refused(aux_users, "get", "aux_id", DIACRITICS, AmbiguousAuxIdError)
    yield from refused(attrgetter("me"), "contacts", "page_size", NO_PAGE_SIZE)
    yield from refused(company, "users", "page_size", NO_PAGE_SIZE)
    no_users: tuple[object, ...] = (
        [],
        (),
        CANARY,
        None,
        7,
        IMPORT,
        [User(CANARY)],
        [{"email": CANARY}],
        [IMPORT, None],
    )
    yield from refused(company, "import_users", "users", no_users, send_email=True)
    yield from refused(company, "import_users", "send_email", NO_FLAG, users=[IMPORT])
    half = ImportUser(email="a@b.nl", first_name=HALF, last_name="X")
    yield from refused(company, "import_users", "users", [[half]], send_email=True)


def of_invitations() -> Iterator[Case]:
    def invite(
        name: str, values: Sequence[object], error: type[Exception] = InvalidInputError
    ) -> Iterator[Case]:
        right: dict[str, Any] = {"kind": "private", "email": "a@b.nl", **PERSON, "aux_id": "p1"}
        return refused(users, "invite", name, values, error, **right)

    yield from invite("kind", ("", CANARY, "private_user", "Private", None, 7, ["private"]))
    yield from invite("email", (None, "", " ", CANARY, 7, b"a@b.nl", f"{HALF}@b.nl"))
    yield from invite("phone_number", ("+31 6", "", 316))  # besides the e-mail address
    by_phone: dict[str, Any] = {"kind": "private", **PERSON}
    yield from refused(users, "invite", "phone_number", ("", " ", 316, b"316", HALF), **by_phone)
    for name in ("first_name", "last_name"):
        yield from invite(name, (None, 7, CANARY.encode(), [CANARY], HALF, f"{CANARY}\n"))
    yield from invite("invite_text", ("", " ", 7, [CANARY], HALF))
    yield from invite("send_email", NO_FLAG)
    yield from invite("aux_id", NO_AUX_ID, InvalidIdError)
    yield from invite("aux_id", DIACRITICS, AmbiguousAuxIdError)
    yield from invite("if_taken", (None, "", CANARY, "share", "Move", True))


def of_creations() -> Iterator[Case]:
    yield from refused(attrgetter("conversations"), "start", "user", NO_USER, InvalidIdError)
    plain: Place = attrgetter("groupchats")
    auxiliary: Place = attrgetter("auxiliary.groupchats")
    for at, own in ((plain, {}), (auxiliary, {"aux_id": "p1"})):
        right: dict[str, Any] = {"subject": "x", **own}
        yield from refused(at, "create", "subject", (*NO_TEXT, HALF), **right)
        yield from refused(at, "create", "members", NO_USERS, **right)
        yield from refused(at, "create", "members", [[each] for each in NO_USER], InvalidIdError, **right)
        no_invites = (INVITE, CANARY, None, 7, [CANARY], [User(CANARY)], [{"email": CANARY}], [INVITE, None])
        yield from refused(at, "create", "invite_users", no_invites, **right)
        yield from refused(at, "create", "settings", (*WRONG_SETTINGS, {}, True), **right)
        yield from refused(at, "create", "send_email", NO_FLAG, **right)
    yield from refused(auxiliary, "create", "aux_id", (*NO_AUX_ID, None), InvalidIdError, subject="x")
    yield from refused(auxiliary, "create", "aux_id", DIACRITICS, AmbiguousAuxIdError, subject="x")
    wrong = (None, "", CANARY, "move", "Share", True)
    yield from refused(auxiliary, "create", "if_taken", wrong, subject="x", aux_id="p1")


def settings_of(name: str, *values: object) -> Iterator[GroupSettings]:
    for value in values:
        wrong: dict[str, Any] = {name: value}
        yield GroupSettings(**wrong)


NO_SETTINGS: Final = (GroupSettings(), GroupSettings(extra={"colour": CANARY}))
WRONG_SETTINGS: Final = (
    *(
        each
        for name in ("allow_contacts", "hybrid_messaging", "members_can_invite")
        for each in settings_of(name, 1, 0, "yes", CANARY)
    ),
    *(
        each
        for name in ("auto_close_after", "auto_expire_after")
        for each in settings_of(name, True, False, -1, 1.5, "7", CANARY)
    ),
)


def of_chats() -> Iterator[Case]:
    yes: dict[str, Any] = {"body": "Komt u?", "options": [YES]}
    yield from refused(chat, "ask", "body", ("", " \n"), EmptyMessageError, options=[YES])
    yield from refused(chat, "ask", "body", (None, 7, CANARY.encode(), HALF), options=[YES])
    no_options: tuple[object, ...] = (
        CANARY,
        YES,
        None,
        7,
        [],
        ["Ja"],
        [{"name": CANARY}],
        [YES, None],
        [Option(HALF)],
    )
    yield from refused(chat, "ask", "options", no_options, body="Komt u?")
    same_name = ([YES, YES], [YES, Option("ja!", name="ja")], [Option(f"{CANARY}!"), Option(f"{CANARY}?")])
    yield from refused(chat, "ask", "options", same_name, body="Komt u?")
    yield from refused(chat, "ask", "users", NO_USERS, **yes)
    yield from refused(chat, "ask", "users", [[each] for each in NO_USER], InvalidIdError, **yes)
    yield from refused(chat, "ask", "multi_answer", NO_FLAG, **yes)
    yield from refused(chat, "ask", "style", (None, "", CANARY, "Vertical", 7, ["vertical"]), **yes)
    no_message = (None, 7, "", ".", "..", HALF, User(CANARY), Attachment(CANARY), Message(""))
    yield from refused(chat, "message", "message_id", no_message, InvalidIdError)
    yield from refused(chat, "messages", "page_size", NO_PAGE_SIZE)
    yield from refused(chat, "request_verification", "user_id", NO_USER, InvalidIdError, provider_id="p1")
    no_provider = ("", ".", "..", None, 7, HALF, [CANARY])
    yield from refused(chat, "request_verification", "provider_id", no_provider, InvalidIdError, user_id="u1")
    no_mentions = (CANARY, None, 7, User(CANARY), [CANARY], [None], [Attachment(CANARY)])
    yield from refused(chat, "complete_mentions", "mentions", no_mentions)
    bad_ids = ([User("")], [User(".."), User("u1")], [User(HALF)])
    yield from refused(chat, "complete_mentions", "mentions", bad_ids, InvalidIdError)
    yield from refused(chat, "complete_mentions", "exclude", NO_USERS, mentions=[User("u1")])
    no_one = [[each] for each in NO_USER]
    yield from refused(chat, "complete_mentions", "exclude", no_one, InvalidIdError, mentions=[User("u1")])


def of_groups() -> Iterator[Case]:
    for at in (group, aux_group):
        for method in ("add_members", "remove_members", "add_admins", "remove_admins"):
            yield from refused(at, method, "users", (*NO_USERS, [], (), iter(())))
            yield from refused(at, method, "users", [["u1", each] for each in NO_USER], InvalidIdError)
        yield from refused(at, "rename", "subject", (*NO_TEXT, HALF))
        yield from refused(at, "configure", "settings", (*NO_SETTINGS, *WRONG_SETTINGS, None, {}, CANARY))
        yield from refused(at, "set_owner", "user", NO_USER, InvalidIdError)
        for method in ("close", "remove"):
            yield from refused(at, method, "send_email", NO_FLAG)
        no_file = (None, 7, b"x", [UploadFile(b"x", "a")], UploadFile(b"", "a"), "/nowhere/a.png", "/")
        yield from refused(at, "set_avatar", "file", no_file, InvalidFileError)
    for method in ("add_members", "remove_members"):
        yield from refused(group, method, "by_aux_id", (True, *NO_FLAG), users=["p1"])
        yield from refused(aux_group, method, "by_aux_id", NO_FLAG, users=["p1"])
        by_aux_id: dict[str, Any] = {"by_aux_id": True}
        wrong = [["p1", each] for each in (*NO_AUX_ID, None)]
        yield from refused(aux_group, method, "users", wrong, InvalidIdError, **by_aux_id)
        ambiguous = [["p1", each] for each in DIACRITICS]
        yield from refused(aux_group, method, "users", ambiguous, AmbiguousAuxIdError, **by_aux_id)
        yield from refused(aux_group, method, "users", (*NO_USERS, []), **by_aux_id)


ALL: Final = tuple(
    case for cases in (of_people, of_invitations, of_creations, of_chats, of_groups) for case in cases()
)


def by_method() -> dict[str, list[Case]]:
    """Group the cases by method and argument: one test for each."""
    found: dict[str, list[Case]] = {}
    for case in ALL:
        found.setdefault(f"{case.call.method} {case.argument}", []).append(case)
    return found


@pytest.mark.parametrize("cases", by_method().values(), ids=by_method())
async def test_what_cannot_be_right_is_refused_and_nothing_is_sent(
    host: ForeignHost, cases: list[Case], tmp_path: Any
) -> None:
    async with host.client() as client:
        for case in cases:
            with pytest.raises(case.error) as caught:
                await case.call.call(client, tmp_path)
            assert type(caught.value) is case.error, case.call.kwargs
            assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.args!r}"
            assert caught.value.__context__ is None

    assert host.seen == []


def test_there_are_as_many_cases_as_one_expects() -> None:
    assert len(ALL) > 800


# --- what looks odd and is right


async def test_what_only_looks_odd_is_sent(host: ForeignHost) -> None:
    for path in ("/users/invite/private", "/groupchats", "/conversations/c1/messages"):
        host.answer(path, b'{"id": "n1"}', status=201)
    for path in ("/groupchats/g1/members", "/groupchats/g1/settings"):
        host.answer(path, b"{}")

    async with host.client() as client:
        # One name only; an address in another script; users from a dict, a set and a generator.
        await client.users.invite("private", email="zoë@zorg.example", first_name="", last_name="")
        await client.groupchats.create(subject=" x ", members={"u1": 1, "u2": 2})
        await client.groupchats("g1").add_members(user for user in ("@all", User("...")))
        await client.groupchats("g1").configure(GroupSettings(auto_close_after=0))
        await client.conversations("c1").ask("?", options={YES: 1}.keys(), users=frozenset())

    assert len(host.seen) == 5
