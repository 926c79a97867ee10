"""The client of a fleet's workers: its token is renewed once for all of them, and kept encrypted.

    healthmsg worker --journal postgresql://… --client examples.fleet_client:client

The user signs in once, in a program of yours that puts the token into the same store, with
`TokenManager(token, app=app, store=store, user="practice").save()`.
"""

import os

from healthmsg import Client, Environment, OAuthApp, SQLTokenStore, TokenCipher, TokenManager


async def client() -> Client:
    """Return a client with the token of the user `practice`."""
    environment = Environment.from_env()
    app = OAuthApp(
        os.environ["HEALTHMSG_CLIENT_ID"],
        os.environ["HEALTHMSG_CLIENT_SECRET"],
        os.environ["HEALTHMSG_REDIRECT_URI"],
        environment,
    )
    # HEALTHMSG_TOKEN_KEYS or the file that HEALTHMSG_TOKEN_KEYS_FILE names: never in the database itself.
    store = SQLTokenStore(os.environ["HEALTHMSG_JOURNAL"], TokenCipher.from_env())
    return Client(await TokenManager.load(store, "practice", app=app), environment=environment)
