"""A journal as version 1 made it, with one message in each state. This never changes."""

SCRIPT = (
    "CREATE TABLE healthmsg_journal (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    "INSERT INTO healthmsg_journal VALUES ('version', '1'), ('account', 'u1'), ('salt', '" + "5a" * 32 + "')",
    """
    CREATE TABLE healthmsg_messages (
        key TEXT NOT NULL PRIMARY KEY, position BIGINT NOT NULL UNIQUE, chat TEXT NOT NULL, body TEXT,
        files TEXT, question TEXT, fingerprint BYTEA NOT NULL, state TEXT NOT NULL, is_final BOOLEAN NOT NULL,
        is_next BOOLEAN NOT NULL, message_id TEXT, error TEXT, attempts INTEGER NOT NULL,
        started_at TIMESTAMPTZ, claimed_by TEXT, claims INTEGER NOT NULL, lease_until TIMESTAMPTZ,
        updated_at TIMESTAMPTZ NOT NULL
    )
    """,
    "CREATE INDEX healthmsg_next ON healthmsg_messages (state, position) WHERE is_next",
    "CREATE UNIQUE INDEX healthmsg_one_next ON healthmsg_messages (chat) WHERE is_next",
    "CREATE INDEX healthmsg_chat ON healthmsg_messages (chat, is_final, position)",
    "CREATE INDEX healthmsg_id ON healthmsg_messages (message_id) WHERE message_id IS NOT NULL",
    "CREATE INDEX healthmsg_delivered ON healthmsg_messages (updated_at) WHERE message_id IS NOT NULL",
    *(
        f"INSERT INTO healthmsg_messages VALUES ('{key}', {position}, 'aux/conversations/{key}'"  # noqa: S608 - our own
        f", {body}, NULL, NULL, {{bytes:{key}}}, '{state}', {final}, NOT {final}, {message_id}, NULL"
        f", {attempts}, {started}, NULL, 1, NULL, '2026-11-23 10:00:00')"
        for position, (key, state, body, final, message_id, attempts, started) in enumerate(
            (
                ("a", "delivered", "NULL", "TRUE", "'m1'", 1, "'2026-11-23 10:00:00'"),
                ("b", "waiting", "'Beste mevrouw Jansen'", "FALSE", "NULL", 0, "NULL"),
                ("c", "sending", "'Beste mevrouw Jansen'", "FALSE", "NULL", 1, "'2026-11-23 10:00:00'"),
                ("d", "not sent", "'Beste mevrouw Jansen'", "TRUE", "NULL", 1, "'2026-11-23 10:00:00'"),
            )
        )
    ),
)

FINGERPRINTS = {
    "a": "e76b6839f7906f0dabc49aca1e1f363258dd4e525f0df26c6a937f89df63bcaa",
    "b": "b4825e04188c8c1e8647f308e01c28291ae3afe8e2085d29a34c7037ac24512d",
    "c": "4005683c4036a2e074c897882805befb94c9736e03dcc2ce16440fae9bbcb264",
    "d": "68b9718d909fe561ff6b29cbf8a375880be47ee17a7ee97f15c91a11736bc3b3",
}
