"""A network as hospitals have it: a proxy on the way out, certificates that only the house vouches for."""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from healthmsg import Client, Environment, OAuthApp, Retries, Token, TokenManager
from tests.servers import Incoming, Received, Server

USER, PASSWORD = "zorg-canary", "pa:ss w%rd"
CREDENTIALS = "zorg-canary:pa%3Ass%20w%25rd"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
STALE, FRESH, REFRESH, CODE = SECRETS = ("st4le-canary", "fr3sh-canary", "r3fresh-canary", "c0de-canary")
FILE = b"%PDF-1.7 canary"


@frozen
class Authority:
    """A certificate authority of our own, and what it vouches for: this machine."""

    bundle: Path
    """What trusts it."""
    server: Path = field(repr=False)
    """A certificate and its key."""

    @classmethod
    def found(
        cls,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        days: tuple[int, int] = (-1, 1),
        has_key_identifiers: bool = True,
    ) -> "Authority":
        """Found one that vouches for a host, from one day to another, counted from today."""
        key, host_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = _name("House of Tests")
        root = _certificate(name, key.public_key(), name, (-1, 1))
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        root = root.add_extension(_for_signing(), critical=True)
        leaf = _certificate(_name(host), host_key.public_key(), name, days)
        leaf = leaf.add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False
        )
        if has_key_identifiers:
            identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
            root = root.add_extension(identifier, critical=False)
            leaf = leaf.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
        authority = cls(folder / "house.pem", folder / "server.pem")
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        authority.bundle.write_bytes(root.sign(key, hashes.SHA256()).public_bytes(pem))
        authority.server.write_bytes(
            host_key.private_bytes(pem, pkcs8, serialization.NoEncryption())
            + leaf.sign(key, hashes.SHA256()).public_bytes(pem)
        )
        return authority

    @property
    def tls(self) -> ssl.SSLContext:
        """What a server needs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        return context


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _for_signing() -> x509.KeyUsage:
    """What a certificate of an authority may be used for, which Python 3.13 and later want to see."""
    others = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **others)


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name, days: tuple[int, int]
) -> x509.CertificateBuilder:
    now, (first, last) = datetime.now(UTC), days
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=first))
        .not_valid_after(now + timedelta(days=last))
    )


@define(eq=False)
class Proxy:
    """What a proxy does with each connection; how it was asked is kept by its server."""

    refusal: int | None = None
    needs_credentials: bool = False
    tunnelled: bytearray = field(factory=bytearray)
    """What clients have sent through, as it is to be read on the way."""

    async def __call__(self, incoming: Incoming) -> None:
        while True:
            request = await incoming.request()
            if self.refusal is not None:
                await incoming.answer(self.refusal)
            elif self.needs_credentials and request.header("Proxy-Authorization") != BASIC:
                await incoming.answer(407, b"", 'Proxy-Authenticate: Basic realm="house"')
            elif request.method == "CONNECT":
                await self._tunnel(incoming, request.target)
                return
            else:
                await self._forward(incoming, request)

    async def _tunnel(self, incoming: Incoming, target: str) -> None:
        host, _, port = target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        incoming.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = asyncio.create_task(_pour(reader, incoming.writer))
        try:
            await _pour(incoming.reader, writer, self.tunnelled)
        finally:
            writer.close()
            back.cancel()

    async def _forward(self, incoming: Incoming, request: Received) -> None:
        url = urlsplit(request.target)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        path = request.target.removeprefix(f"{url.scheme}://{url.netloc}")
        lines = [f"{request.method} {path} HTTP/1.1"]
        lines += [
            f"{name}: {value}"
            for name, values in request.headers.items()
            for value in values
            if not name.startswith("proxy-")
        ]
        writer.write("\r\n".join((*lines, "\r\n")).encode() + request.body)
        answer = Incoming(Server(self), reader, writer)
        head = await answer.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        incoming.writer.write(head + await answer.reader.readexactly(length))
        writer.close()


async def _pour(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None = None
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if kept is not None:
                kept += data
            writer.write(data)
            await writer.drain()
    writer.close()


@define(eq=False)
class Service:
    """The service: its API, its token URL, and files that are on another host."""

    file_url: str = ""

    async def __call__(self, incoming: Incoming) -> None:
        while True:
            request = await incoming.request()
            path = request.target.partition("?")[0]
            if path == "/oauth/token":
                document = {"access_token": FRESH, "token_type": "bearer", "refresh_token": REFRESH}
                await incoming.answer(200, json.dumps(document).encode())
            elif path.startswith("/v1/") and request.header("Authorization") != f"Bearer {FRESH}":
                await incoming.answer(401)
            elif path.startswith("/v1/conversations/c1/attachments/"):
                await incoming.answer(302, b"{}", f"Location: {self.file_url}/file", "Set-Cookie: key=1")
            elif path == "/file":
                await incoming.answer(200, FILE)
            else:
                await incoming.answer(200, b'{"id": "u1"}')


def environment_at(url: str) -> Environment:
    return Environment("hospital", f"{url}/v1", f"{url}/oauth/authorize", f"{url}/oauth/token")


async def use_all(url: str, folder: Path, network: Mapping[str, Any], **options: Any) -> None:
    """Make every kind of call there is: for a token without a client, the API's, a renewal, a download."""
    environment = environment_at(url)
    app = OAuthApp("id", "secret", "https://here.test/callback", environment, **network)
    assert (await app.exchange(CODE)).value == FRESH
    plain = OAuthApp("id", "secret", "https://here.test/callback", environment)
    tokens = TokenManager(Token(STALE, refresh_token=REFRESH), app=plain)
    async with Client(
        tokens, environment=environment, retries=Retries.none(), **network, **options
    ) as client:
        assert (await client.me.get()).id == "u1"
        path = await client.conversations("c1").download("a1", to=folder / "file.pdf")
    assert await asyncio.to_thread(path.read_bytes) == FILE
