"""The options of a PostgreSQL URL, TLS among them, and the encoding of the database."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from healthmsg.bulk.journal import open_journal
from healthmsg.database.postgresql import arguments_of
from healthmsg.database.target import Target, place_of
from healthmsg.errors import ConfigurationError, JournalError

UNTRUSTED = "certificate is not trusted"
NO_TLS = "does not offer TLS"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a certificate of 127.0.0.1, which vouches for itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(pem, pkcs8, serialization.NoEncryption()) + made.public_bytes(pem),
    )
    return file


class Gate:
    """A way to the tests' PostgreSQL over TCP, with TLS or without, which notes what it was used for."""

    def __init__(self, folder: str, tls: ssl.SSLContext | None) -> None:
        self._socket = f"{folder}/.s.PGSQL.5432"
        self._tls = tls
        self.port = 0
        self.encrypted: list[bool] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._open = set[asyncio.Task[None] | None]()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            if task is not None:
                await asyncio.wait([task], timeout=5)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(asyncio.current_task())
        there, back = await asyncio.open_unix_connection(self._socket)
        with suppress(OSError, asyncio.IncompleteReadError):
            start = await reader.readexactly(8)
            is_asked = start == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # SSLRequest
            if not is_asked:
                back.write(start)
            elif self._tls is None:
                writer.write(b"N")
            else:
                writer.write(b"S")
                await writer.start_tls(self._tls)
            self.encrypted.append(is_asked and self._tls is not None)
            pouring = [asyncio.create_task(_pour(*way)) for way in ((reader, back), (there, writer))]
            await asyncio.wait(pouring, return_when=asyncio.FIRST_COMPLETED)
            for task in pouring:
                task.cancel()
            await asyncio.wait(pouring)
        for one in (writer, back):
            one.close()
            with suppress(OSError):
                await one.wait_closed()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()


def through(database: str, gate: Gate, options: str, host: str = "127.0.0.1") -> str:
    name = database.partition("@/")[2].partition("?")[0]
    return f"postgresql://postgres@{host}:{gate.port}/{name}?{options}"


@pytest.fixture
async def gates(postgresql: str, certificate: Path) -> AsyncIterator[dict[str, Gate]]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    gates = {"TLS": Gate(postgresql, tls), "plain": Gate(postgresql, None)}
    async with AsyncExitStack() as stack:
        for gate in gates.values():
            await stack.enter_async_context(gate)
        yield gates


async def opening(url: str, *, is_reading: bool = False) -> None:
    async with open_journal(url, is_reading=is_reading):
        pass


CERTIFICATE = "{certificate}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", ["", "sslmode=prefer", "sslmode=disable", "sslmode=require", "ssl=require"]
)
async def test_what_sslmode_says_is_kept_to(database: str, gates: dict[str, Gate], options: str) -> None:
    await opening(through(database, gates["TLS"], options))
    assert gates["TLS"].encrypted == [options != "sslmode=disable"]

    if not options.endswith("require"):
        await opening(through(database, gates["plain"], options))
        return
    with pytest.raises(JournalError, match=NO_TLS):
        await opening(through(database, gates["plain"], options))


@pytest.mark.parametrize(
    ("options", "host", "reason"),
    [
        (f"sslmode=verify-ca&sslrootcert={CERTIFICATE}", "localhost", ""),
        (f"sslmode=verify-full&sslrootcert={CERTIFICATE}", "127.0.0.1", ""),
        (f"sslmode=require&sslrootcert={CERTIFICATE}", "127.0.0.1", ""),
        (f"sslmode=verify-full&sslrootcert={CERTIFICATE}", "localhost", f"{UNTRUSTED}.*[Hh]ostname"),
        ("sslrootcert=system", "127.0.0.1", UNTRUSTED),
        ("sslmode=verify-full&sslrootcert=/nowhere", "127.0.0.1", "`sslrootcert` cannot be read"),
        ("sslmode=verify-full", "127.0.0.1", "Add `sslrootcert=`"),
    ],
)
async def test_the_server_is_verified_as_far_as_was_asked(
    database: str,
    gates: dict[str, Gate],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    options: str,
    host: str,
    reason: str,
) -> None:
    monkeypatch.setenv("HOME", str(certificate.parent))
    url = through(database, gates["TLS"], options.replace(CERTIFICATE, str(certificate)), host)
    if not reason:
        await opening(url)
        assert gates["TLS"].encrypted == [True]
        return
    with pytest.raises(JournalError, match=reason) as caught:
        await opening(url)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("sslmode=verify_full", "sslmode must be one of"),
        ("sslmode=true", "sslmode must be one of"),
        ("sslmode=", "sslmode must be one of"),
        ("sslmode=disable&sslmode=require", "sslmode more than once"),
        ("ssl=disable&sslmode=require", "sslmode more than once"),
        ("sslrootcert=", "sslrootcert is empty"),
        ("sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("ssl_mode=require", "did you mean sslmode"),
        ("c4nary=w0rd@host/db", "an option is not known. It takes"),
        ("connect_timeout=soon", "whole seconds"),
        ("channel_binding=require", "channel_binding is not possible so with"),
        ("gssencmode=require", "gssencmode is not possible so with"),
        ("client_encoding=latin1", "client_encoding is not possible so with"),
    ],
)
def test_an_option_that_cannot_be_kept_to_is_refused_by_name(options: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Target.parse(f"postgresql://u:geheim@db.example/x?{options}")
    assert not any(secret in str(caught.value) for secret in ("geheim", "c4nary", "w0rd"))


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres"])
def test_options_become_what_asyncpg_takes(scheme: str) -> None:
    target = Target.parse(
        f"{scheme}://u@/x?host=/run/pg&port=6000&sslmode=require&connect_timeout=5&application_name=recall"
        "&channel_binding=prefer&options=-c%20search_path%3Dx&sslnegotiation=direct&keep_bodies=1"
    )

    assert target.keep_bodies
    assert place_of(target.options) == {"host": "/run/pg", "port": "6000"}
    assert arguments_of(target.options) == {
        "dsn": "postgresql://?sslmode=require",
        "timeout": 5,
        "direct_tls": True,
        "server_settings": {"application_name": "recall", "options": "-c search_path=x"},
    }


# --- the encoding


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_has_not_every_letter_is_refused_with_what_to_do(
    database: str, postgresql: str, encoding: str
) -> None:
    connection = await asyncpg.connect(host=postgresql, user="postgres", database="postgres")
    name = f"other_{encoding.lower()}"
    await connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    url = f"postgresql://postgres@/{name}?host={postgresql}"
    try:
        with pytest.raises(JournalError, match=f"{encoding}.*Nothing was sent.*ENCODING 'UTF8'") as caught:
            await opening(url)
        with pytest.raises(JournalError, match="There is no journal"):
            await opening(url, is_reading=True)  # what is in it can be read
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()
    assert caught.value.__cause__ is caught.value.__context__ is None
