"""What a message is recognised by: keys and fingerprints."""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from healthmsg.bulk.journal.values import JournalFile

HASH_LENGTH: Final = 32
_KEY_LENGTH: Final = 32


def files_as_json(files: Sequence[JournalFile]) -> str | None:
    """Write down a message's files. ASCII: names that are no proper text survive, too."""
    return json.dumps([attrs.asdict(file) for file in files]) if files else None


def files_of_json(text: str | None) -> tuple[JournalFile, ...]:
    """Read what `files_as_json` wrote."""
    return tuple(JournalFile(**file) for file in json.loads(text)) if text else ()


def question_as_json(question: Mapping[str, object] | None) -> str | None:
    """Write down a message's question, always in the same way."""
    return None if question is None else json.dumps(question, sort_keys=True)


def question_of_json(text: str | None) -> dict[str, object] | None:
    """Read what `question_as_json` wrote."""
    read: dict[str, object] | None = json.loads(text) if text else None
    return read


def body_hash(salt: bytes, body: str) -> bytes:
    """Recognise a text without keeping it."""
    return _digest(salt, (body,))


def fingerprint_of(
    chat: str,
    body: str,
    files: Sequence[JournalFile],
    question: Mapping[str, object] | None,
    *,
    salt: bytes,
) -> bytes:
    """Tell apart what is sent to whom, without keeping what it says.

    Of files, their content counts, not where they lie: that may be another place in the next run.
    """
    held = [[file.name, file.content_type, file.size, file.digest] for file in files]
    return _digest(salt, (chat, body, json.dumps(held) if held else "", question_as_json(question) or ""))


def likeness_of(
    chat: str,
    body: str,
    files: Sequence[JournalFile],
    question: Mapping[str, object] | None,
    *,
    salt: bytes,
) -> bytes:
    """Recognise what may be the same message: as `fingerprint_of`, but of files only the names count.

    A letter that is rendered again has other bytes as soon as there is a date in it. With another key, it
    would be sent although the one before it was delivered; so it has the same key, and is refused.
    """
    names = [[file.name] for file in files]
    return _digest(salt, (chat, body, json.dumps(names) if names else "", question_as_json(question) or ""))


def key_of(likeness: bytes, nth: int) -> str:
    """Derive a key from what is sent to whom, and how many alike came before."""
    return hashlib.sha256(likeness + nth.to_bytes(8, "big")).hexdigest()[:_KEY_LENGTH]


def _digest(salt: bytes, parts: Iterable[str]) -> bytes:
    """Hash the parts, each after its length: what moves from one part to another makes a difference."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in coded)
    return hmac.digest(salt, framed, "sha256")
