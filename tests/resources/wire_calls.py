"""What each method of the SDK must put on the wire, from the contract and the vendor's client."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from operator import attrgetter
from typing import Any, Final

from attrs import evolve

from healthmsg import (
    Attachment,
    Client,
    ConversationInfo,
    GroupChatInfo,
    IdentityProvider,
    Message,
    SentMessage,
    User,
)
from healthmsg.files import UploadFile
from healthmsg.ids import ChatKind
from healthmsg.models import GroupInvite, GroupSettings, ImportUser, Member, Option
from tests.foreign_host import Part
from tests.resources.wire_rows import BASE, HERE, Id, Row, row

FIRST_PAGE: Final = "page=0&amount=100"
TWENTY: Final = "page=0&amount=20"
PERSON: Final[dict[str, Any]] = {"first_name": "Ann", "last_name": "de Wit"}
NOT_THERE: Final[dict[str, Any]] = {"status": 404, "answer": {}}
PDF, PNG = UploadFile(b"%PDF", "uitslag.pdf"), UploadFile(b"\x89PNG\r\n--", "é.bin", "image/x")
COMPLETE = User("u1", first_name="Ann", last_name="de Wit")

me, company = attrgetter("me"), attrgetter("company")
users, aux_users = attrgetter("users"), attrgetter("auxiliary.users")
conversations, group_chats = attrgetter("conversations"), attrgetter("groupchats")
aux_group_chats = attrgetter("auxiliary.groupchats")
NAMESPACES: Final = {
    ChatKind.CONVERSATION: conversations,
    ChatKind.GROUP_CHAT: group_chats,
    ChatKind.AUX_CONVERSATION: attrgetter("auxiliary.conversations"),
    ChatKind.AUX_GROUP_CHAT: aux_group_chats,
}


def table(given: Id, chat: Id) -> tuple[Row, ...]:
    """Return a row for every method and kind of chat; `given` is every id but that of the chat."""
    return (
        *_people(given),
        *_invitations(given),
        *_creations(given),
        *(each for kind in ChatKind for each in _namespace(kind, chat)),
        *(each for kind in ChatKind for each in _chat(kind, chat, given)),
        *(each for kind in ChatKind for each in _files(kind, chat, given)),
        *(each for kind in ChatKind if kind.is_group for each in _group(kind, chat, given)),
        *_auxiliary_members(chat, given),
    )


def _people(given: Id) -> tuple[Row, ...]:
    raw, user = given.raw, f"users/{given.segment}"
    imported = ImportUser(email="a@b.nl", **PERSON)
    named = evolve(imported, username="ann", saml_username="ann@saml")
    person = {"email": "a@b.nl", **PERSON}
    also_named = {**person, "username": "ann", "saml_username": "ann@saml"}
    return (
        row(me, "get").sends("GET", "me"),
        row(me, "contacts").sends("GET", "me/contacts", FIRST_PAGE, answer=[]),
        row(me, "contacts", page_size=20).sends("GET", "me/contacts", TWENTY, answer=[]),
        row(company, "get").sends("GET", "company"),
        row(company, "users").sends("GET", "company/users", FIRST_PAGE, answer=[]),
        row(company, "import_users", [imported, named], send_email=False).sends(
            "POST", "company/import", document={"send_email": False, "users": [person, also_named]}, answer=[]
        ),
        row(users, "get", raw).sends("GET", user),
        row(users, "get", User(raw)).sends("GET", user),
        row(users, "providers", raw).sends("GET", f"{user}/providers", answer=[]),
        row(users, "verifications", Member(raw)).sends("GET", f"{user}/verifications", answer={"user": []}),
        row(users, "is_verified", raw, IdentityProvider("p1", "DigiD")).sends(
            "GET", f"{user}/verifications", answer={}
        ),
        row(users, "is_verified", raw, "DigiD").sends("GET", f"{user}/verifications", answer={}),
        row(users, "is_coworker", raw).sends("GET", "me").sends("GET", user),
        row(aux_users, "get", raw).sends("GET", f"aux/users/{given.segment}"),
    )


def _invitations(given: Id) -> tuple[Row, ...]:
    look = ("GET", f"aux/users/{given.segment}")
    by_mail = {"email": "a@b.nl", **PERSON}
    by_phone = {"phone_number": "+31612345678", **PERSON}
    reported = {"invite_text": "Welkom", "send_email": False}
    identified = {**by_mail, "aux_id": given.raw}
    return tuple(
        each
        for kind in ("coworker", "contact", "private")
        for path in [f"users/invite/{kind}"]
        for each in (
            row(users, "invite", kind, **by_mail).sends(
                "POST", path, document={**by_mail, "send_email": True}
            ),
            row(users, "invite", kind, **by_phone, **reported).sends(
                "POST", path, document={**by_phone, **reported}
            ),
            row(users, "invite", kind, **identified)
            .sends(*look, **NOT_THERE)
            .sends("POST", path, document={**identified, "send_email": True}),
            row(users, "invite", kind, **identified, if_taken="move").sends(
                "POST", path, document={**identified, "send_email": True}
            ),
        )
    )


def _creations(given: Id) -> tuple[Row, ...]:
    """The rows that create a chat."""
    raw, segment = given.raw, given.segment
    plain = GroupInvite(email="a@b.nl", invite_type="coworker", **PERSON)
    full = GroupInvite(
        phone_number="+31 (0)6-1234 5678",
        invite_type="private_user",
        invite_text="Welkom",
        aux_id="p 1/x",
        create_conversation=True,
        **PERSON,
    )
    invites = [
        {"email": "a@b.nl", "invite_type": "coworker", "create_conversation": False, **PERSON},
        {
            "phone_number": "+31612345678",
            "invite_type": "private_user",
            "create_conversation": True,
            **PERSON,
            "invite_text": "Welkom",
            "aux_id": "p 1/x",
        },
    ]
    least = {"subject": "Overleg", "members": [], "invite_users": [], "send_email": True}
    settings = GroupSettings(allow_contacts=False, auto_close_after=0)
    given_all: dict[str, Any] = {
        "subject": "Overleg",
        "members": [raw, User(raw), "u2"],
        "invite_users": [plain, full],
        "settings": settings,
        "send_email": False,
    }
    sent_all = {
        "subject": "Overleg",
        "members": [raw, "u2"],
        "invite_users": invites,
        "send_email": False,
        "settings": {"allow_contacts": False, "auto_close_after": 0},
    }
    aux_least = {**least, "aux_id": raw, "aux_members": False}
    aux_all = {**sent_all, "aux_id": raw, "aux_members": True}
    look_for_chat, look_for_user = ("GET", f"aux/groupchats/{segment}"), ("GET", "aux/users/p%201%2Fx")
    start = {"user_id": raw}
    return (
        row(conversations, "start", raw).sends("POST", "conversations", document=start),
        row(conversations, "start", User(raw)).sends("POST", "conversations", document=start),
        row(group_chats, "create", subject="Overleg").sends("POST", "groupchats", document=least),
        row(group_chats, "create", **given_all)
        .sends(*look_for_user, **NOT_THERE)
        .sends("POST", "groupchats", document=sent_all),
        row(aux_group_chats, "create", aux_id=raw, subject="Overleg")
        .sends(*look_for_chat, **NOT_THERE)
        .sends("POST", "aux/groupchats", document=aux_least),
        row(aux_group_chats, "create", aux_id=raw, subject="Overleg", if_taken="share").sends(
            "POST", "aux/groupchats", document=aux_least
        ),
        row(aux_group_chats, "create", aux_id=raw, subject="Overleg", invite_users=[plain])
        .sends(*look_for_chat, **NOT_THERE)
        .sends("POST", "aux/groupchats", document={**aux_least, "invite_users": invites[:1]}),
        row(aux_group_chats, "create", aux_id=raw, **given_all)
        .sends(*look_for_chat, **NOT_THERE)
        .sends(*look_for_user, **NOT_THERE)
        .sends("POST", "aux/groupchats", document=aux_all),
    )


def _namespace(kind: ChatKind, chat: Id) -> tuple[Row, ...]:
    at, path = NAMESPACES[kind], f"{kind.value}/{chat.segment}"
    info = GroupChatInfo if kind.is_group else ConversationInfo
    model = info("other", aux_id=chat.raw) if kind.is_auxiliary else info(chat.raw)
    return (
        row(at, "list").sends("GET", kind.value, FIRST_PAGE, answer=[]),
        row(at, "list", page_size=20).sends("GET", kind.value, TWENTY, answer=[]),
        row(at, "get", chat.raw).sends("GET", path),
        row(at, "get", model).sends("GET", path),
    )


def _handle(kind: ChatKind, chat: Id) -> tuple[Callable[[Client], Any], str]:
    return lambda client: NAMESPACES[kind](client)(chat.raw), f"{kind.value}/{chat.segment}"


def _chat(kind: ChatKind, chat: Id, given: Id) -> tuple[Row, ...]:
    at, path = _handle(kind, chat)
    options = [Option("Ja, graag"), Option("Nee", name="NO", style="red")]
    question = {
        "multi_answer": False,
        "style": "horizontal",
        "users": [],
        "options": [
            {"name": "ja_graag", "label": "Ja, graag"},
            {"name": "NO", "label": "Nee", "style": "red"},
        ],
    }
    full = {**question, "multi_answer": True, "style": "vertical", "users": [given.raw, "u2"]}
    message = f"{path}/messages/{given.segment}"
    return (
        row(at, "get").sends("GET", path),
        row(at, "send", " Hallo\n").sends("POST", f"{path}/messages", document={"body": " Hallo\n"}),
        row(at, "ask", "Komt u?", options=options).sends(
            "POST", f"{path}/messages", document={"body": "Komt u?", "question": question}
        ),
        row(
            at,
            "ask",
            "Komt u?",
            options=tuple(options),
            users=[given.raw, User(given.raw), "u2"],
            multi_answer=True,
            style="vertical",
        ).sends("POST", f"{path}/messages", document={"body": "Komt u?", "question": full}),
        row(at, "messages").sends("GET", f"{path}/messages", FIRST_PAGE, answer=[]),
        row(at, "messages", page_size=20).sends("GET", f"{path}/messages", TWENTY, answer=[]),
        row(at, "message", given.raw).sends("GET", message),
        row(at, "message", Message(given.raw)).sends("GET", message),
        row(at, "message", SentMessage(given.raw)).sends("GET", message),
        row(at, "request_verification", user_id=User(given.raw), provider_id="p1").sends(
            "POST", f"{path}/verification", document={"user_id": given.raw, "provider_id": "p1"}
        ),
        row(at, "request_verification", user_id="u1", provider_id=given.raw).sends(
            "POST", f"{path}/verification", document={"user_id": "u1", "provider_id": given.raw}
        ),
        row(at, "complete_mentions", [COMPLETE, User(given.raw)]).sends("GET", f"users/{given.segment}"),
    )


def _files(kind: ChatKind, chat: Id, given: Id) -> tuple[Row, ...]:
    at, path = _handle(kind, chat)
    pdf = Part("files", b"%PDF", "uitslag.pdf", "application/pdf")
    png = Part("files", b"\x89PNG\r\n--", "é.bin", "image/x")
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    elsewhere = datetime(2026, 7, 1, 1, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    start_query = "start_date=2026-01-02T03%3A04%3A05Z%2B00%3A00"
    end_query = "end_date=2026-06-30T23%3A00%3A00Z%2B00%3A00"

    def fetch(asked: Row, below: str, query: str) -> Row:
        link: dict[str, Any] = {"answer": {"link": f"{BASE}/file"}}
        return asked.sends("GET", f"{path}/{below}", query, **link).sends("GET", "file")

    def list_one(asked: Row) -> Row:
        messages = [{"id": "m1", "attachments": [{"id": "a/1", "name": "a.pdf"}]}]
        first = asked.sends("GET", f"{path}/messages", FIRST_PAGE, answer=messages)
        return first.sends("GET", f"{path}/messages", "page=1&amount=100", answer=[])

    attachment, listed = f"attachments/{given.segment}", "attachments/a%2F1"
    return (
        row(at, "upload", PDF).sends("POST", f"{path}/attachments", parts=(Part("message", b""), pdf)),
        row(at, "upload", PNG, PDF, body="Bijlagen é").sends(
            "POST", f"{path}/attachments", parts=(Part("message", "Bijlagen é".encode()), png, pdf)
        ),
        fetch(row(at, "download", given.raw, to=HERE, overwrite=True), attachment, "headers=false"),
        fetch(row(at, "download", Attachment(given.raw), to=HERE), attachment, "headers=false"),
        fetch(row(at, "download_stream", given.raw), attachment, "headers=false"),
        fetch(row(at, "download_stream", Attachment(given.raw)), attachment, "headers=false"),
        fetch(row(at, "download_bytes", given.raw), attachment, "headers=false"),
        fetch(row(at, "download_bytes", Attachment(given.raw)), attachment, "headers=false"),
        fetch(row(at, "download_pdf", to=HERE), "pdf", "headers=false"),
        fetch(row(at, "download_pdf", to=HERE, start=start), "pdf", f"{start_query}&headers=false"),
        fetch(row(at, "download_pdf", to=HERE, end=elsewhere), "pdf", f"{end_query}&headers=false"),
        fetch(
            row(at, "download_pdf", to=HERE, end=elsewhere, start=start),
            "pdf",
            f"{start_query}&{end_query}&headers=false",
        ),
        fetch(list_one(row(at, "download_all", to=HERE)), listed, "headers=false"),
        fetch(list_one(row(at, "export", to=HERE).sends("GET", path)), listed, "headers=false"),
    )


def _group(kind: ChatKind, chat: Id, given: Id) -> tuple[Row, ...]:
    at, path = _handle(kind, chat)
    aux = {"aux_members": False} if kind.is_auxiliary else {}
    several = [given.raw, User(given.raw), Member("u2"), "u2"]
    ids = [given.raw, "u2"]
    everything: dict[str, Any] = {
        "allow_contacts": False,
        "auto_close_after": 0,
        "auto_expire_after": 3600,
        "hybrid_messaging": True,
        "members_can_invite": False,
    }
    settings, picture = f"{path}/settings", Part("avatar", b"\x89PNG\r\n--", "é.bin", "image/x")
    each_setting = tuple(
        row(at, "configure", GroupSettings(**{name: value})).sends("PUT", settings, document={name: value})
        for name, value in everything.items()
    )
    return (
        row(at, "members").sends("GET", f"{path}/members", answer=[]),
        row(at, "complete_mentions", [User("@all")]).sends("GET", f"{path}/members", answer=[]),
        row(at, "add_members", several).sends("PUT", f"{path}/members", document={"members": ids, **aux}),
        row(at, "remove_members", {given.raw}).sends(
            "DELETE", f"{path}/members", document={"members": ids[:1], **aux}
        ),
        row(at, "rename", " Nieuw ").sends("PUT", path, document={"subject": " Nieuw "}),
        *each_setting,
        row(at, "configure", GroupSettings(**everything, extra={"colour": 1})).sends(
            "PUT", settings, document=everything
        ),
        row(at, "set_owner", given.raw).sends("PUT", f"{path}/owner", document={"user_id": given.raw}),
        row(at, "set_owner", Member(given.raw)).sends(
            "PUT", f"{path}/owner", document={"user_id": given.raw}
        ),
        row(at, "add_admins", several).sends("PUT", f"{path}/admins", document={"admins": ids}),
        row(at, "remove_admins", several).sends("DELETE", f"{path}/admins", document={"admins": ids}),
        row(at, "set_avatar", PNG).sends("POST", f"{path}/avatar", parts=(picture,)),
        row(at, "close", send_email=True).sends("DELETE", path, document={"send_email": True}),
        row(at, "close", send_email=False).sends("DELETE", path, document={"send_email": False}),
        row(at, "remove", send_email=True).sends(
            "DELETE", path, document={"send_email": True, "remove": True}
        ),
        row(at, "remove", send_email=False).sends(
            "DELETE", path, document={"send_email": False, "remove": True}
        ),
    )


def _auxiliary_members(chat: Id, given: Id) -> tuple[Row, ...]:
    at, path = _handle(ChatKind.AUX_GROUP_CHAT, chat)
    document = {"members": [given.raw], "aux_members": True}
    return (
        row(at, "add_members", [given.raw], by_aux_id=True).sends(
            "PUT", f"{path}/members", document=document
        ),
        row(at, "remove_members", [given.raw], by_aux_id=True).sends(
            "DELETE", f"{path}/members", document=document
        ),
    )
