"""The client of a fleet: its token comes out of the journal's database, and is renewed there for all."""

import pytest
from attrs import evolve

from examples.fleet_client import client
from healthmsg import Environment, OAuthApp, SQLTokenStore, Token, TokenCipher, TokenManager
from healthmsg.auth.token import utc_now
from healthmsg.sandbox import Sandbox

REDIRECT = "http://127.0.0.1:8000/callback"


async def test_workers_renew_the_token_once_and_the_database_does_not_show_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sandbox(refresh_tokens=True, revoke_on_reuse=True) as sandbox:
        for name, value in {
            "HEALTHMSG_CLIENT_ID": sandbox.client_id,
            "HEALTHMSG_CLIENT_SECRET": sandbox.client_secret,
            "HEALTHMSG_REDIRECT_URI": REDIRECT,
            "HEALTHMSG_JOURNAL": database,
            "HEALTHMSG_TOKEN_KEYS": TokenCipher.new_key(),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(Environment, "from_env", lambda: sandbox.environment)
        token = Token(
            sandbox.issue_token(), expires_at=utc_now(), refresh_token=sandbox.issue_token(refresh=True)
        )
        app = OAuthApp(sandbox.client_id, sandbox.client_secret, REDIRECT, sandbox.environment)
        store = SQLTokenStore(database, TokenCipher.from_env())
        await TokenManager(evolve(token), app=app, store=store, user="practice").save()

        workers = [await client() for _ in range(2)]
        for worker in workers:
            async with worker:
                assert (await worker.me.get()).id == sandbox.user_id

        assert sum("oauth" in call.path for call in sandbox.calls) == 1
        renewed = await store.load("practice")
        assert renewed is not None
        assert renewed.value != token.value
