"""Tokens at rest: encrypted with a key that rotates, and filed under names that say nothing.

What a store keeps for a user is encrypted together with the user's name, so that a row that was moved to
another user is refused. It is filed under a keyed hash of the name. That hash must stay the same while the
keys rotate: so its key is one of its own, which the store keeps, too, encrypted like the tokens.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import orjson

from healthmsg.auth.entries import entry_of, token_of
from healthmsg.auth.token import Token
from healthmsg.errors import ConfigurationError, InvalidInputError, TokenStoreError
from healthmsg.errors.base import hides_arguments

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "encrypted tokens need one more package: pip install 'healthmsg[encryption]'", name="cryptography"
    ) from None

KEYS_VARIABLE: Final = "HEALTHMSG_TOKEN_KEYS"
KEYS_FILE_VARIABLE: Final = "HEALTHMSG_TOKEN_KEYS_FILE"
_NAME_KEY_BYTES: Final = 32
_UNREADABLE: Final = (
    "A stored token cannot be decrypted: its key is not among those that were given, or it was changed. Add"
    " the key that it was encrypted with, after the others."
)


class TokenCipher:
    """Encrypts tokens at rest, with keys that can be exchanged one after the other (extra `encryption`).

    The first key encrypts, all of them decrypt. To exchange a key: add the new one at the end, in all
    processes; then put it first, in all of them; then call the store's `rotate`, and drop the old one. A
    process that does not have the key of a token yet raises `TokenStoreError`, and leaves it as it is. Each
    key is what `new_key` returns: Fernet's, 32 bytes in URL-safe base64 (AES-128-CBC with HMAC-SHA256). It
    does not depend on the store, so keep it elsewhere.

    Raises:
        ConfigurationError: there is no key, or one cannot be a key.
    """

    def __init__(self, keys: str | Iterable[str]) -> None:
        self._fernets = _fernets([keys] if isinstance(keys, str) else list(keys))

    def __repr__(self) -> str:
        return "<TokenCipher>"

    @staticmethod
    def new_key() -> str:
        """Return a new random key."""
        return Fernet.generate_key().decode()

    @classmethod
    @hides_arguments
    def from_env(cls) -> Self:
        """Return a cipher with the keys in `HEALTHMSG_TOKEN_KEYS`, or in the file of `…_KEYS_FILE`.

        White space or commas are between the keys, and the first one encrypts. Blocks for the file.

        Raises:
            ConfigurationError: none of the two is set, or both are, or one key cannot be a key.
        """
        text, file = os.environ.get(KEYS_VARIABLE, ""), os.environ.get(KEYS_FILE_VARIABLE, "")
        if file and text.strip():
            raise ConfigurationError(f"{KEYS_VARIABLE} and {KEYS_FILE_VARIABLE} are both set: unset one")
        if file:
            text = _text_of(Path(file))
        if not text.strip():
            raise ConfigurationError(f"neither {KEYS_VARIABLE} nor {KEYS_FILE_VARIABLE} is set")
        return cls(text.replace(",", " ").split())

    def encrypt(self, plain: bytes) -> bytes:
        """Encrypt with the first key."""
        return self._fernets.encrypt(plain)

    def decrypt(self, encrypted: bytes) -> bytes:
        """Decrypt what was encrypted with any of the keys.

        Raises:
            TokenStoreError: it was not, or it was changed since.
        """
        with suppress(InvalidToken):
            return self._fernets.decrypt(encrypted)
        raise TokenStoreError(_UNREADABLE)

    def rotate(self, encrypted: bytes) -> bytes:
        """Encrypt with the first key what was encrypted with any of them.

        Raises:
            TokenStoreError: it was not, or it was changed since.
        """
        with suppress(InvalidToken):
            return self._fernets.rotate(encrypted)
        raise TokenStoreError(_UNREADABLE)


TokenCipher.__init__ = hides_arguments(TokenCipher.__init__)  # type: ignore[method-assign]


def new_name_key(cipher: TokenCipher) -> bytes:
    """Return a new random key for the users' names, encrypted as a store keeps it."""
    return cipher.encrypt(secrets.token_bytes(_NAME_KEY_BYTES))


class Vault:
    """What a store writes of users and tokens, with the one key for names that it was opened with."""

    def __init__(self, cipher: TokenCipher, name_key: bytes) -> None:
        self._cipher = cipher
        self._name_key = cipher.decrypt(name_key)

    def __repr__(self) -> str:
        return "<Vault>"

    def row_of(self, user: str) -> str:
        """Return what the user's row is called: a keyed hash.

        Raises:
            InvalidInputError: that cannot be a user's name.
        """
        return hmac.new(self._name_key, user_bytes(user), hashlib.sha256).hexdigest()

    def seal(self, user: str, token: Token) -> bytes:
        """Encrypt a user's token."""
        return self._cipher.encrypt(orjson.dumps({"user": user, "token": entry_of(token)}))

    def open(self, user: str, sealed: bytes) -> Token:
        """Decrypt a user's token.

        Raises:
            TokenStoreError: it is another user's, was changed, or its key is not there.
        """
        plain = self._cipher.decrypt(sealed)
        with suppress(ValueError, KeyError, TypeError):
            document = orjson.loads(plain)
            token = token_of(document["token"]) if document["user"] == user else None
            if token is not None:
                return token
        raise TokenStoreError("A stored token is not what this package wrote for that user.")


def user_bytes(user: str) -> bytes:
    """Return a user's name as bytes.

    Raises:
        InvalidInputError: it is empty, or no text that can be written as UTF-8.
    """
    with suppress(UnicodeEncodeError, AttributeError):
        if encoded := user.encode():
            return encoded
    raise InvalidInputError("user must be text that can be written as UTF-8, and not empty")


def _fernets(keys: list[str]) -> "MultiFernet":
    if not keys:
        raise ConfigurationError("a TokenCipher needs a key: TokenCipher.new_key() makes one")
    # Any error of a key is the same one, which says nothing of the key.
    with suppress(ValueError, TypeError, AttributeError):
        return MultiFernet([Fernet(key.strip()) for key in keys])
    raise ConfigurationError("each key of a TokenCipher must be what TokenCipher.new_key() returns")


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError:
        reason = "it is not made of keys"
    raise ConfigurationError(f"the file of {KEYS_FILE_VARIABLE} cannot be read: {reason}")
