"""The ledger of a shared limit in PostgreSQL: a row for the limit, and a row for each process's beat.

A turn is one statement, or two. The first lets the own beat rise, and reads all. The second writes the ledger
if it is still what was read, and nothing otherwise, so no lock is held while a process thinks: one that is
suspended in the middle of a turn holds up no other. Neither asks for the time.

`NOTIFY` says at once what concerns others, and a lock of the session says that this process is alive. Behind
a pooler that gives each transaction another connection there is neither: then what others did is seen with
the next renewal, and a process that died is missed when its lease is over.
"""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg
from attrs import asdict

from healthmsg.database.postgresql import connect_arguments
from healthmsg.database.target import Target
from healthmsg.ratelimit.leases.holder import Change, Notice, Read
from healthmsg.ratelimit.leases.ledger import Ledger, Pause

# Locks of two numbers are a space of their own; this is the first one.
_LOCKS: Final = 1_751_477_363
_LOCK_BITS: Final = 31
# Seconds.
_CONNECT: Final = 5.0
_MAKE: Final = (
    "SELECT pg_advisory_xact_lock(hashtext('healthmsg_slots'));"
    "CREATE TABLE IF NOT EXISTS healthmsg_slots"
    " (name text PRIMARY KEY, version bigint NOT NULL, token text NOT NULL, ledger text NOT NULL);"
    "CREATE TABLE IF NOT EXISTS healthmsg_slot_beats"
    " (name text NOT NULL, member text NOT NULL, beat bigint NOT NULL, PRIMARY KEY (name, member));"
)
_IS_MADE: Final = (
    "SELECT to_regclass('healthmsg_slots') IS NOT NULL AND to_regclass('healthmsg_slot_beats') IS NOT NULL"
)
# The own beat rises in the same statement, which sees it as it was.
_TURN: Final = f"""
WITH renewed AS (
    UPDATE healthmsg_slot_beats SET beat = beat + 1 WHERE name = $1 AND member = $2 RETURNING 1
)
SELECT
    (SELECT count(*) FROM renewed) AS renewed,
    extract(epoch FROM pg_postmaster_start_time())::text AS server,
    (SELECT token FROM healthmsg_slots WHERE name = $1) AS token,
    (SELECT ledger FROM healthmsg_slots WHERE name = $1) AS ledger,
    (SELECT json_object_agg(member, beat) FROM healthmsg_slot_beats WHERE name = $1)::text AS beats,
    ARRAY(
        SELECT objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND classid = {_LOCKS} AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS locks
"""  # noqa: S608 - a number of our own
# In this order, since each part needs the one before: a beat that rises or ends does so before the ledger.
_WRITE: Final = """
WITH mine AS (
    {mine}
), ended AS (
    DELETE FROM healthmsg_slot_beats
    WHERE name = {name} AND (member, beat) IN ({over}) AND EXISTS (SELECT 1 FROM mine) RETURNING 1
), written AS (
    {ledger}
) {leave}
SELECT {notify} FROM written
"""
_BEGIN: Final = (
    "INSERT INTO healthmsg_slot_beats AS beats (name, member, beat) VALUES ({name}, {member}, 1)"
    # It is there if another was faster to write the ledger the last time.
    " ON CONFLICT (name, member) DO UPDATE SET beat = beats.beat + 1 RETURNING 1"
)
_RISE: Final = (
    "UPDATE healthmsg_slot_beats SET beat = beat + 1 WHERE name = {name} AND member = {member} RETURNING 1"
)
_STAND: Final = "SELECT 1 FROM healthmsg_slot_beats WHERE name = {name} AND member = {member} FOR UPDATE"
# Not before the ledger is written: without a beat it would say that all calls are long over.
_LEAVE: Final = (
    ", gone AS (DELETE FROM healthmsg_slot_beats"
    " WHERE name = {name} AND member = {member} AND EXISTS (SELECT 1 FROM written))"
)
_CHANGE: Final = (
    "UPDATE healthmsg_slots SET version = version + 1, token = {token}, ledger = {text}"
    " WHERE name = {name} AND token = {known}"
    " AND EXISTS (SELECT 1 FROM mine) AND (SELECT count(*) FROM ended) = {ends} RETURNING 1"
)
_FIRST: Final = (
    "INSERT INTO healthmsg_slots (name, version, token, ledger) SELECT {name}, 1, {token}, {text} FROM mine"
    " ON CONFLICT DO NOTHING RETURNING 1"
)


class PostgresqlLedger:
    """One connection to the ledger of one limit.

    `on_notice` is called with what others have written, `on_loss` when the connection has ended.
    """

    def __init__(
        self, target: Target, name: str, on_notice: Callable[[Notice], object], on_loss: Callable[[], object]
    ) -> None:
        self._target = target
        self._name = name
        self._on_notice = on_notice
        self._on_loss = on_loss
        self._channel = "healthmsg_" + hashlib.sha256(name.encode()).hexdigest()[:16]
        self._connection: Any = None
        self._token: str | None = None
        self.lock: int | None = None
        """The lock that this session holds; `None` behind a pooler."""
        self.is_shared_session: bool = False
        """Whether a pooler gives each transaction another connection."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and not self._connection.is_closed()

    async def connect(self, patience: float) -> None:
        """Connect, and take a lock that ends with this session; `patience` is for each statement."""
        arguments = await asyncio.to_thread(connect_arguments, self._target)
        # What a pooler hands on to others must not have names.
        arguments |= {"command_timeout": patience, "statement_cache_size": 0, "timeout": _CONNECT}
        connection = await asyncpg.connect(**arguments)
        try:
            await self._set_up(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _set_up(self, connection: Any) -> None:
        async with connection.transaction():
            process = await connection.fetchval("SELECT pg_backend_pid()")
            if not await connection.fetchval(_IS_MADE):
                await connection.execute(_MAKE)
        # A pooler makes up the process that it announces: see `database/postgresql.py`.
        self.is_shared_session = process != connection.get_server_pid()
        self.lock = None
        if not self.is_shared_session:
            self.lock = secrets.randbits(_LOCK_BITS)
            await connection.execute(f"SELECT pg_advisory_lock({_LOCKS}, {self.lock})")
            await connection.add_listener(self._channel, self._heard)
        connection.add_termination_listener(self._lost)

    async def turn(self, member: str) -> Read:
        """Let the own beat rise, and read everything."""
        if self.is_shared_session:
            async with self._connection.transaction():
                row = await self._connection.fetchrow(_TURN, self._name, member)
        else:
            row = await self._connection.fetchrow(_TURN, self._name, member)
        self._token = row["token"]
        beats: dict[str, int] = json.loads(row["beats"] or "{}")
        if not row["renewed"]:
            beats.pop(member, None)
        ledger = None if row["ledger"] is None else Ledger.from_json(row["ledger"])
        locks = None if self.is_shared_session else frozenset(row["locks"])
        return Read(ledger, row["server"], beats, locks)

    async def write(self, change: Change) -> bool:
        """Write the ledger, unless another was faster; return whether it was written."""
        notice = _notice_text(change.notice)
        values = {
            "name": _quoted(self._name),
            "member": _quoted(change.id),
            "token": _quoted(secrets.token_hex(8)),
            "text": _quoted(change.ledger.to_json()),
            "known": _quoted(self._token or ""),
            "notify": f"pg_notify({_quoted(self._channel)}, {_quoted(notice)})" if notice else "1",
            "ends": str(sum(beat >= 0 for beat in change.over.values())),
            "over": ", ".join(f"({_quoted(name)}, {beat})" for name, beat in change.over.items())
            or "SELECT '', 0::bigint WHERE false",
        }
        mine = _BEGIN if change.joins else _STAND if change.leaves else _RISE
        ledger = _FIRST if self._token is None else _CHANGE
        leave = _LEAVE if change.leaves else ""
        statement = _WRITE.format(
            **values,
            mine=mine.format(**values),
            ledger=ledger.format(**values),
            leave=leave.format(**values),
        )
        # One message and no parameters: whole, or not at all, behind any pooler.
        return bool(await self._connection.execute(statement) == "SELECT 1")

    async def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.remove_termination_listener(self._lost)
        try:
            with suppress(Exception):
                await connection.close(timeout=1.0)
        finally:
            connection.terminate()

    def terminate(self) -> None:
        """End the connection without a word."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._lost)
            connection.terminate()

    def is_away(self, error: Exception) -> bool:
        """Return whether the server itself is away or starts, so that no other process is served either."""
        if isinstance(error, asyncpg.CannotConnectNowError | ConnectionRefusedError | FileNotFoundError):
            return True
        return isinstance(error, OSError) and "Multiple exceptions" in str(error)

    def problem_of(self, error: Exception) -> tuple[str, bool]:
        """Return what went wrong in words without anything private, and whether it will go wrong again."""
        if isinstance(error, asyncpg.PostgresError):
            state = error.sqlstate or ""
            return f"PostgreSQL answered {type(error).__name__} ({state})", state.startswith(
                ("28", "3D", "42")
            )
        if isinstance(error, TimeoutError):
            return "PostgreSQL did not answer in time", False
        if isinstance(error, OSError):
            return f"no connection to PostgreSQL: {error.strerror or type(error).__name__}", False
        return f"no connection to PostgreSQL: {type(error).__name__}", False

    def _heard(self, _: object, __: int, ___: str, payload: str) -> None:
        if payload:
            self._on_notice(_notice_of(payload))

    def _lost(self, _: object) -> None:
        self._on_loss()


def _quoted(text: str) -> str:
    # Whatever `standard_conforming_strings` is: a backslash stands for itself in neither.
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _notice_text(notice: Notice) -> str:
    if not notice:
        return ""
    pause = None if notice.pause is None else asdict(notice.pause)
    text = json.dumps({"gifts": notice.gifts, "debts": notice.debts, "pause": pause}, separators=(",", ":"))
    # PostgreSQL allows 8,000 bytes. Without it, what it says is seen with the next turn.
    return text if len(text) < 7_900 else ""  # noqa: PLR2004


def _notice_of(payload: str) -> Notice:
    found = json.loads(payload)
    gifts = {name: (given, rests) for name, (given, rests) in found["gifts"].items()}
    return Notice(gifts, found["debts"], None if found["pause"] is None else Pause(**found["pause"]))
