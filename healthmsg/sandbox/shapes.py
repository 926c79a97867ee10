"""The service's objects as JSON. Contract: "Objects"."""

from attrs import asdict

from healthmsg.sandbox.habits import Habits
from healthmsg.sandbox.records import (
    Company,
    File,
    Payload,
    Person,
    Provider,
    StoredChat,
    StoredMessage,
    VerificationRequest,
)

JSON = dict[str, object]


def company_json(company: Company) -> JSON:
    """Describe a company [A]."""
    return {"id": company.id, "name": company.name}


def user_json(person: Person) -> JSON:
    """Describe a user [D]; `private_user` and `email` [V]."""
    company = person.company
    return {
        "id": person.id,
        "type": "user",
        "first_name": person.first_name,
        "last_name": person.last_name,
        "email": person.email,
        "company_name": company.name if company else None,
        "company_id": company.id if company else None,
        "position": person.position,
        "avatar": None,
        "active": True,
        "private_user": company is None,
    }


def member_json(chat: StoredChat, person: Person) -> JSON:
    """Describe a member of a group chat [V]; that the owner is an admin too is assumed [A]."""
    return user_json(person) | {"owner": person is chat.owner, "admin": chat.is_admin(person)}


def chat_json(chat: StoredChat, viewer: Person, habits: Habits) -> JSON:
    """Describe a chat as one member sees it [V]; `user`, `avatar` and the timestamps [A]."""
    latest = chat.messages[-1].created_at if chat.messages else chat.created_at
    document: JSON = {
        "id": chat.id,
        "subject": chat.subject,
        "closed": chat.closed,
        "aux_id": chat.aux_id(viewer),
        "created_at": habits.stamp(chat.created_at),
        "updated_at": habits.stamp(latest),
    }
    if chat.is_group:
        return document | {
            "members": [member_json(chat, member) for member in chat.members],
            "settings": asdict(chat.settings),
            "avatar": chat.avatar,
            # Objects [V]; what they hold is not known.
            "dial_in_info": {},
            "guest_access": {},
        }
    return document | {"user": user_json(chat.other_side(viewer))}


def message_json(message: StoredMessage, habits: Habits) -> JSON:
    """Describe a message [V]; `created_at` and `liked_by` [A]."""
    return {
        "id": message.id,
        "body": message.body,
        "user": user_json(message.sender),
        "attachments": [attachment_json(file, habits) for file in message.files],
        "mentions": [{"id": user_id} for user_id in message.mentions],
        "payload": None if message.payload is None else payload_json(message.payload),
        "created_at": habits.stamp(message.created_at),
        "liked_by": [],
    }


def provider_json(provider: Provider) -> JSON:
    """Describe an identity provider [V]."""
    return {"provider_id": provider.id, "name": provider.name}


def payload_json(payload: Payload) -> JSON:
    """Describe a question or a verification request [V].

    Where the answers are, and what a request's `attributes` hold, is assumed [A].
    """
    if isinstance(payload, VerificationRequest):
        user, provider = payload.person, payload.provider
        attributes = {"user_id": user.id, "provider_id": provider.id, "provider_name": provider.name}
        return {"type": "verification_request", "attributes": attributes}
    answers = [{"user_id": user_id, "options": names} for user_id, names in payload.answers.items()]
    return {
        "type": "question",
        "multi_answer": payload.multi_answer,
        "style": payload.style,
        "users": payload.users,
        "options": [asdict(option, filter=lambda _, value: value is not None) for option in payload.options],
        "answers": answers,
    }


def attachment_json(file: File, habits: Habits) -> JSON:
    """Describe an attachment [V]."""
    return {
        "id": file.id,
        "name": file.name,
        "size": habits.file_size(file.size),
        "mime_type": file.mime_type,
    }
