"""A token in a store that environment variables name."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from healthmsg import Client, FileTokenStore, RedisTokenStore, SQLTokenStore, Token, TokenCipher
from healthmsg.errors import ConfigurationError, ReauthorizationRequiredError
from healthmsg.sandbox import Sandbox

USER = "dr"


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    async with Sandbox(refresh_tokens=True, revoke_on_reuse=True, sample_data=False) as sandbox:
        url = sandbox.environment.token_url
        assert url is not None
        monkeypatch.setenv("HEALTHMSG_API_URL", sandbox.environment.api_url)
        monkeypatch.setenv("HEALTHMSG_TOKEN_URL", url)
        monkeypatch.setenv("HEALTHMSG_TOKEN_USER", USER)
        monkeypatch.setenv("HEALTHMSG_CLIENT_ID", sandbox.client_id)
        monkeypatch.setenv("HEALTHMSG_CLIENT_SECRET", sandbox.client_secret)
        yield sandbox


def expired(sandbox: Sandbox) -> Token:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    refresh_token = sandbox.issue_token(refresh=True)
    return Token("old", created_at=hour_ago, expires_at=hour_ago, refresh_token=refresh_token)


@pytest.mark.parametrize(
    "kind", ["file", "encrypted file", "redis", pytest.param("postgresql", marks=pytest.mark.slow)]
)
async def test_clients_from_the_environment_renew_a_stored_token_once(
    kind: str,
    sandbox: Sandbox,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = TokenCipher.new_key()
    cipher = TokenCipher(key)
    place = str(tmp_path / "tokens.json")
    if kind != "file":
        monkeypatch.setenv("HEALTHMSG_TOKEN_KEYS", key)
    if kind == "redis":
        place = request.getfixturevalue("redis_url")
        async with RedisTokenStore(place, cipher) as in_redis:
            await in_redis.save(USER, expired(sandbox))
    elif kind == "postgresql":
        folder = request.getfixturevalue("postgresql")
        place = f"postgresql+asyncpg://postgres@/postgres?host={folder}"
        await SQLTokenStore(place, cipher).save(USER, expired(sandbox))
    else:
        store = FileTokenStore(place, cipher=None if kind == "file" else cipher)
        await store.save(USER, expired(sandbox))
    monkeypatch.setenv("HEALTHMSG_TOKEN_STORE", place)
    for _ in range(2):
        async with Client.from_env() as client:
            await client.me.get()
    assert [call.path for call in sandbox.calls].count("/oauth/token") == 1


async def test_an_empty_store_asks_for_a_new_authorization(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTHMSG_TOKEN_STORE", str(tmp_path / "tokens.json"))
    async with Client.from_env() as client:
        with pytest.raises(ReauthorizationRequiredError):
            await client.me.get()
    assert not sandbox.calls


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HEALTHMSG_TOKEN", "t", "both set"),
        ("HEALTHMSG_TOKEN_USER", "", "HEALTHMSG_TOKEN_USER"),
        ("HEALTHMSG_CLIENT_SECRET", "", "HEALTHMSG_CLIENT_SECRET"),
        ("HEALTHMSG_TOKEN_URL", "", "HEALTHMSG_TOKEN_URL"),
        ("HEALTHMSG_TOKEN_STORE", "redis://h", "HEALTHMSG_TOKEN_KEYS"),
        ("HEALTHMSG_TOKEN_STORE", "mysql://h", "HEALTHMSG_TOKEN_KEYS"),
    ],
)
async def test_what_is_missing_is_named(
    name: str, value: str, said: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTHMSG_TOKEN_STORE", "tokens.json")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        Client.from_env()
