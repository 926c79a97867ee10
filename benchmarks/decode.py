"""What it costs to make models of a page of 100 messages, next to reading its JSON and doing nothing more."""

from collections.abc import Callable
from datetime import datetime
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import orjson
import pydantic

from healthmsg.codec import decode
from healthmsg.models import Message

ROUNDS = 200
MESSAGES = 100
TALK = (
    "Goedemorgen, hoe gaat het vandaag met u? Heeft u de bloeddruk al gemeten, en was die beter dan eerst? ",
    "Goedemorgen! Iets beter, ik heb goed geslapen. De bloeddruk was 138 over 86, vóór het ontbijt gemeten. ",
    "Dat is keurig. Meet u morgenochtend nog een keer, dan kijk ik of u met één tablet per dag toe kunt. 🙏 ",
)


def user(number: int) -> dict[str, object]:
    """Describe a user, all fields given."""
    return {
        "id": f"5f0d6c1e-8a44-4b39-9c27-{number:012x}",
        "type": "user",
        "first_name": "Marieke",
        "last_name": "van den Berg",
        "email": f"marieke.vandenberg{number}@delinde.example",
        "company_name": "Zorggroep De Linde",
        "company_id": "c2a8e7d0-31f5-4d62-b0a9-6e1f93d75b48",
        "position": "Wijkverpleegkundige",
        "avatar": f"https://pictures.delinde.example/{number:012x}.png",
        "active": True,
        "private_user": False,
    }


def attachment(number: int) -> dict[str, object]:
    """Describe a file."""
    name = f"wond dag {number} close-up.png"
    return {"id": f"{number:032x}", "name": name, "size": 1_234_567 + number, "mime_type": "image/png"}


def question(number: int) -> dict[str, object]:
    """Describe a question with two buttons that one user answered."""
    return {
        "type": "question",
        "multi_answer": False,
        "style": "horizontal",
        "users": [user(number)["id"]],
        "options": [
            {"name": "ja", "label": "Ja, graag", "style": "green"},
            {"name": "nee", "label": "Nee, liever niet", "style": "red"},
        ],
        "answers": [{"user_id": user(number)["id"], "options": ["ja"]}],
    }


def message(number: int) -> dict[str, object]:
    """Describe a message: some with files, mentions, a question, or an unknown key."""
    document: dict[str, object] = {
        "id": f"9b1e4f70-26cd-4e83-a5d8-{number:012x}",
        "body": "".join(TALK[: 1 + number % 3]) + TALK[number % 3],
        "user": user(number % 7),
        "attachments": [attachment(number), attachment(number + 1)] if number % 5 == 0 else [],
        "mentions": [user(number % 7 + 1), "@all"] if number % 4 == 0 else [],
        "payload": question(number % 7) if number % 10 == 0 else None,
        "created_at": f"2026-01-02T{number % 24:02}:04:05.678Z",
        "liked_by": [],
    }
    return document | ({"edited_by": {"id": number}} if number % 6 == 0 else {})


class StructUser(msgspec.Struct, frozen=True):
    """A user for msgspec."""

    id: str
    type: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    company_name: str | None = None
    company_id: str | None = None
    position: str | None = None
    avatar: str | None = None
    active: bool | None = None
    private_user: bool | None = None


class StructAttachment(msgspec.Struct, frozen=True):
    """A file for msgspec."""

    id: str
    name: str | None = None
    size: int | None = None
    mime_type: str | None = None


class StructOption(msgspec.Struct, frozen=True):
    """A button of a question for msgspec."""

    name: str | None = None
    label: str | None = None
    style: str | None = None


class StructAnswer(msgspec.Struct, frozen=True):
    """An answer to a question for msgspec."""

    user_id: str | None = None
    options: tuple[str, ...] = ()


class StructQuestion(msgspec.Struct, frozen=True, tag="question"):
    """A question for msgspec."""

    options: tuple[StructOption, ...] = ()
    multi_answer: bool | None = None
    style: str | None = None
    users: tuple[StructUser | str, ...] = ()
    answers: tuple[StructAnswer, ...] = ()


class StructMessage(msgspec.Struct, frozen=True):
    """A message for msgspec."""

    id: str
    body: str | None = None
    user: StructUser | None = None
    user_id: str | None = None
    attachments: tuple[StructAttachment, ...] = ()
    mentions: tuple[StructUser | str, ...] = ()
    payload: StructQuestion | None = None
    created_at: datetime | None = None
    liked_by: tuple[StructUser | str, ...] = ()


class Strict(pydantic.BaseModel):
    """Coerce nothing, and keep unknown keys."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow", frozen=True)


class PydanticUser(Strict):
    """A user for pydantic."""

    id: str
    type: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    company_name: str | None = None
    company_id: str | None = None
    position: str | None = None
    avatar: str | None = None
    active: bool | None = None
    private_user: bool | None = None


class PydanticAttachment(Strict):
    """A file for pydantic."""

    id: str
    name: str | None = None
    size: int | None = None
    mime_type: str | None = None


class PydanticOption(Strict):
    """A button of a question for pydantic."""

    name: str | None = None
    label: str | None = None
    style: str | None = None


class PydanticAnswer(Strict):
    """An answer to a question for pydantic."""

    user_id: str | None = None
    options: tuple[str, ...] = ()


class PydanticQuestion(Strict):
    """A question for pydantic."""

    type: str | None = None
    options: tuple[PydanticOption, ...] = ()
    multi_answer: bool | None = None
    style: str | None = None
    users: tuple[PydanticUser | str, ...] = ()
    answers: tuple[PydanticAnswer, ...] = ()


class PydanticMessage(Strict):
    """A message for pydantic."""

    id: str
    body: str | None = None
    user: PydanticUser | None = None
    user_id: str | None = None
    attachments: tuple[PydanticAttachment, ...] = ()
    mentions: tuple[PydanticUser | str, ...] = ()
    payload: PydanticQuestion | None = None
    created_at: datetime | None = None
    liked_by: tuple[PydanticUser | str, ...] = ()


def medians(readers: dict[str, Callable[[bytes], object]], page: bytes) -> dict[str, float]:
    """Give the median seconds of each; they take turns, so that a busy machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            began = perf_counter()
            read(page)
            seconds[name].append(perf_counter() - began)
    return {name: median(measured) for name, measured in seconds.items()}


def main() -> None:
    """Measure all twice, to show how far the figures can be trusted, and print them."""
    page = orjson.dumps([message(number) for number in range(MESSAGES)])
    struct: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[StructMessage])
    adapter = pydantic.TypeAdapter(list[PydanticMessage])
    readers: dict[str, Callable[[bytes], object]] = {
        "orjson.loads": orjson.loads,
        "healthmsg": lambda body: decode(body, tuple[Message, ...], "GET {chat}/messages"),
        "msgspec": struct.decode,
        "pydantic": adapter.validate_json,
    }
    keeps = {
        "orjson.loads": "no types",
        "healthmsg": "strict types, unknown keys kept",
        "msgspec": "strict types, unknown keys lost",
        "pydantic": "strict types, unknown keys kept",
    }
    print(f"{MESSAGES} messages, {len(page)} bytes")
    for _ in range(2):
        measured = medians(readers, page)
        for name, seconds in measured.items():
            ratio = seconds / measured["orjson.loads"]
            print(f"{name:<14}{seconds * 1e6:>8.0f} µs   ratio {ratio:>5.2f}   {keeps[name]}")


if __name__ == "__main__":
    main()
