"""What a message is recognised by: keys and fingerprints."""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from healthmsg.bulk.journal.values import JournalFile

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


def fingerprint(salt: bytes, chat: str, body: str, files: str | None, question: str | None) -> bytes:
    """Tell messages apart without keeping what they say."""
    return _digest(salt, (chat, body, files or "", question or ""))


def body_hash(salt: bytes, body: str) -> bytes:
    """Recognise a text without keeping it."""
    return _digest(salt, (body,))


def default_key(  # noqa: PLR0913 - all that makes a message what it is
    chat: str,
    body: str,
    files: Sequence[JournalFile] = (),
    question: Mapping[str, object] | None = None,
    nth: int = 0,
    *,
    salt: bytes = b"",
) -> str:
    """Derive a key from what is sent to whom, and how many equal ones came before.

    With a journal's own salt, nobody can find out from the key what was said by trying texts.
    """
    digest = fingerprint(salt, chat, body, files_as_json(files), question_as_json(question))
    return _key(digest, nth)


class KeyMaker:
    """Derives keys, and counts equal messages: the same input in the same order gives the same keys.

    It keeps 8 bytes of a hash for each distinct message, about 70 in memory. Should two messages ever share
    these, the second is numbered 1 instead of 0; their keys differ all the same.
    """

    def __init__(self, salt: bytes = b"") -> None:
        self._salt = salt
        # A set takes half of what a dict does, and few messages come twice.
        self._seen: set[int] = set()
        self._repeated: dict[int, int] = {}

    def key(
        self,
        chat: str,
        body: str,
        files: Sequence[JournalFile] = (),
        question: Mapping[str, object] | None = None,
    ) -> str:
        """Give the key of the next message."""
        digest = fingerprint(self._salt, chat, body, files_as_json(files), question_as_json(question))
        return _key(digest, self._count(int.from_bytes(digest[:8], "big")))

    def _count(self, digest: int) -> int:
        if digest not in self._seen:
            self._seen.add(digest)
            return 0
        nth = self._repeated.get(digest, 0) + 1
        self._repeated[digest] = nth
        return nth


def _key(digest: bytes, nth: int) -> str:
    return hashlib.sha256(digest + nth.to_bytes(8, "big")).hexdigest()[:_KEY_LENGTH]


def _digest(salt: bytes, parts: Iterable[str]) -> bytes:
    """Hash the parts, each after its length: what moves from one part to another makes a difference."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in coded)
    return hmac.digest(salt, framed, "sha256")
