"""Keys that rotate, and what a store writes of users and tokens."""

from pathlib import Path

import orjson
import pytest

from healthmsg import FileTokenStore, Token, TokenCipher
from healthmsg.auth.encryption import Vault, new_name_key
from healthmsg.errors import ConfigurationError, InvalidInputError, TokenStoreError
from tests.auth.token_service import REFRESH_TOKEN, VALUE, assert_tells_no_secret, expiring
from tests.transport.test_frames import found

USER = "Jansen, J. é 🙂"


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new = TokenCipher.new_key(), TokenCipher.new_key()
    sealed = TokenCipher([old]).encrypt(b"x")
    assert TokenCipher([new, old]).decrypt(sealed) == b"x"
    assert TokenCipher([old]).decrypt(TokenCipher([old, new]).encrypt(b"x")) == b"x"
    with pytest.raises(TokenStoreError, match="decrypted"):
        TokenCipher(new).decrypt(sealed)


def test_what_was_rotated_needs_the_old_key_no_more() -> None:
    old, new = TokenCipher.new_key(), TokenCipher.new_key()
    rotated = TokenCipher([new, old]).rotate(TokenCipher(old).encrypt(b"x"))
    assert TokenCipher(new).decrypt(rotated) == b"x"


@pytest.mark.parametrize("keys", [[], "", ["short"], [None], ["é" * 44], [7]])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(keys: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="new_key") as caught:
        TokenCipher(keys)
    assert_tells_no_secret(caught.value, "short")


def test_no_repr_shows_a_key() -> None:
    key = TokenCipher.new_key()
    cipher = TokenCipher(key)
    assert key not in repr(cipher) + repr(Vault(cipher, new_name_key(cipher)))


def test_keys_come_from_the_environment_or_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = TokenCipher.new_key(), TokenCipher.new_key()
    with pytest.raises(ConfigurationError, match="HEALTHMSG_TOKEN_KEYS"):
        TokenCipher.from_env()
    file = tmp_path / "keys"
    monkeypatch.setenv("HEALTHMSG_TOKEN_KEYS_FILE", str(file))
    with pytest.raises(ConfigurationError, match="No such file"):
        TokenCipher.from_env()
    file.write_text(f"{new}\n{old}\n")
    assert TokenCipher.from_env().decrypt(TokenCipher(old).encrypt(b"x")) == b"x"
    monkeypatch.setenv("HEALTHMSG_TOKEN_KEYS", f"{old}, {new}")
    with pytest.raises(ConfigurationError, match="both set"):
        TokenCipher.from_env()
    monkeypatch.delenv("HEALTHMSG_TOKEN_KEYS_FILE")
    assert TokenCipher(old).decrypt(TokenCipher.from_env().encrypt(b"x")) == b"x"


def test_no_frame_of_a_bad_key_shows_the_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    key = TokenCipher.new_key()
    monkeypatch.setenv("HEALTHMSG_TOKEN_KEYS", f"{key} short")
    for make in (TokenCipher.from_env, lambda: TokenCipher([key, "short"])):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert found(caught.value, (key,)) == set()


def test_a_row_of_another_user_is_refused() -> None:
    cipher = TokenCipher(TokenCipher.new_key())
    vault = Vault(cipher, new_name_key(cipher))
    sealed = vault.seal(USER, expiring())
    assert vault.open(USER, sealed) == expiring()
    with pytest.raises(TokenStoreError, match="for that user") as caught:
        vault.open("other", sealed)
    assert_tells_no_secret(caught.value)
    assert vault.row_of(USER) != Vault(cipher, new_name_key(cipher)).row_of(USER)


@pytest.mark.parametrize("user", ["", "\ud800", None])
def test_a_user_that_cannot_be_written_is_refused(user: str) -> None:
    cipher = TokenCipher(TokenCipher.new_key())
    with pytest.raises(InvalidInputError):
        Vault(cipher, new_name_key(cipher)).row_of(user)


# --- the file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


async def test_an_encrypted_file_shows_no_token_and_no_name(path: Path) -> None:
    cipher = TokenCipher(TokenCipher.new_key())
    await FileTokenStore(path, cipher=cipher).save(USER, expiring())
    content = path.read_text()  # noqa: ASYNC240 - a small file
    assert not [text for text in (VALUE, REFRESH_TOKEN, "Jansen", "refresh", "old") if text in content]
    assert await FileTokenStore(path, cipher=cipher).load(USER) == expiring()
    assert await FileTokenStore(path, cipher=cipher).load("other") is None
    await FileTokenStore(path, cipher=cipher).delete(USER)
    assert await FileTokenStore(path, cipher=cipher).load(USER) is None


async def test_a_file_is_encrypted_as_its_tokens_are_saved(path: Path) -> None:
    await FileTokenStore(path).save(USER, expiring())
    await FileTokenStore(path).save("other", expiring())
    store = FileTokenStore(path, cipher=TokenCipher(TokenCipher.new_key()))
    assert await store.load(USER) == expiring()
    await store.save(USER, Token("new"))
    assert USER not in orjson.loads(path.read_bytes())  # noqa: ASYNC240 - a small file
    assert await store.load(USER) == await store.load(USER)
    assert await store.load("other") == expiring()
    assert await store.rotate() == 2
    assert "other" not in orjson.loads(path.read_bytes())  # noqa: ASYNC240 - a small file
    assert await store.load("other") == expiring()


async def test_a_file_survives_the_exchange_of_its_key(path: Path) -> None:
    old, new = TokenCipher.new_key(), TokenCipher.new_key()
    await FileTokenStore(path, cipher=TokenCipher(old)).save(USER, expiring())
    await FileTokenStore(path, cipher=TokenCipher([new, old])).rotate()
    assert await FileTokenStore(path, cipher=TokenCipher(new)).load(USER) == expiring()
    with pytest.raises(TokenStoreError, match="decrypted"):
        await FileTokenStore(path, cipher=TokenCipher(old)).load(USER)


async def test_an_encrypted_file_is_not_touched_without_its_cipher(path: Path) -> None:
    await FileTokenStore(path, cipher=TokenCipher(TokenCipher.new_key())).save(USER, expiring())
    before = path.read_bytes()  # noqa: ASYNC240 - a small file
    store = FileTokenStore(path)
    for call in (store.load(USER), store.save(USER, expiring()), store.delete(USER)):
        with pytest.raises(TokenStoreError, match="cipher"):
            await call
    with pytest.raises(ConfigurationError, match="cipher"):
        await store.rotate()
    assert path.read_bytes() == before  # noqa: ASYNC240 - a small file
