"""Connections to Kafka with TLS: the brokers are verified, and the service shows its own certificate."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from common.bus import make_bus
from common.database import Database
from common.events import OrganisationChanged
from common.outbox import publish
from common.relay import Relay
from common.settings import StoreSettings, load_settings
from common.watchdog import is_reachable
from delivery.clients.bus import intake_lag


class SampleSettings(StoreSettings):
    service = "sample"


@dataclass
class Authority:
    """A certificate authority that writes its own certificate and those that it issues to a folder."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {self.folder.name}")])
        self.file = self._write("ca", self._sign(self.name, self.key, is_authority=True), self.key)[0]

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a new certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, self._sign(subject, key, is_authority=False), key)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority_key, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "own")


@pytest.fixture
def settings(sample_url: str, authority: Authority) -> Callable[..., SampleSettings]:
    """`settings(servers)` has the service's certificate. Any setting may be replaced."""
    certificate, key = authority.issue("sample")

    def make(servers: str, **other: Any) -> SampleSettings:
        values: dict[str, Any] = {
            "port": 1,
            "worker_port": 2,
            "database_url": sample_url,
            "kafka_bootstrap_servers": servers,
            "internal_token_secret": "s" * 32,
            "kafka_ca_file": str(authority.file),
            "kafka_certificate_file": str(certificate),
            "kafka_key_file": str(key),
        }
        return SampleSettings(**(values | other))

    return make


@asynccontextmanager
async def listen(authority: Authority) -> AsyncIterator[tuple[str, "asyncio.Queue[str]"]]:
    """Accept connections that show a certificate of the authority, and close them.

    Yield the address, and the names in the certificates that clients showed.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(*authority.issue("broker"))
    context.verify_mode = ssl.CERT_REQUIRED
    names: asyncio.Queue[str] = asyncio.Queue()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert")
        with suppress(OSError):
            if await reader.read(1):  # a client that refuses our certificate sends nothing
                names.put_nowait(dict(pair for part in certificate["subject"] for pair in part)["commonName"])
            writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", names


async def first_name(client: Awaitable[object], names: "asyncio.Queue[str]") -> str:
    """Return the name that a client shows. The client itself fails: there is no broker behind the listener."""
    task = asyncio.ensure_future(client)
    try:
        async with asyncio.timeout(60):
            return await names.get()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# FastStream does not close a producer that could not start.
@pytest.mark.filterwarnings("ignore:Unclosed AIOKafkaProducer:ResourceWarning")
async def test_the_consumers_show_the_certificate_of_the_service(
    authority: Authority, settings: Callable[..., SampleSettings]
) -> None:
    async with listen(authority) as (address, names):
        bus = make_bus(settings(address))
        assert await first_name(bus.broker.start(), names) == "sample"
        await bus.broker.stop()


async def test_the_relay_shows_the_certificate_of_the_service(
    authority: Authority, settings: Callable[..., SampleSettings], database: Database
) -> None:
    async with listen(authority) as (address, names):
        relay = Relay(database, address, "sample", settings(address).kafka_tls)
        async with database.all_tenants() as session:
            await publish(session, [OrganisationChanged(organisation_id="org_1", closed=False, version=1)])
        assert await first_name(relay.step(), names) == "sample"
        await relay.close()


async def test_the_look_at_the_lag_shows_the_certificate_of_the_service(
    authority: Authority, settings: Callable[..., SampleSettings]
) -> None:
    async with listen(authority) as (address, names):
        assert await first_name(intake_lag(address, settings(address).kafka_tls), names) == "sample"


async def test_the_question_whether_a_broker_answers_shows_the_certificate_of_the_service(
    authority: Authority, settings: Callable[..., SampleSettings]
) -> None:
    async with listen(authority) as (address, names):
        assert await first_name(is_reachable(address, settings(address).kafka_tls), names) == "sample"


async def test_a_broker_of_another_authority_is_refused(
    authority: Authority, settings: Callable[..., SampleSettings], tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    async with listen(authority) as (address, names):
        tls = settings(address, kafka_ca_file=str(other.file)).kafka_tls
        assert await intake_lag(address, tls) == 1  # not known
        assert names.empty()


async def test_without_files_connections_have_no_tls(settings: Callable[..., SampleSettings]) -> None:
    none = {"kafka_ca_file": "", "kafka_certificate_file": "", "kafka_key_file": ""}
    assert settings("127.0.0.1:1", **none).kafka_tls is None


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("KAFKA_CA_FILE", "/nowhere/ca.crt", "KAFKA_CA_FILE"),
        ("KAFKA_CERTIFICATE_FILE", "/nowhere/user.crt", "KAFKA_KEY_FILE"),
        ("KAFKA_KEY_FILE", "/nowhere/user.key", "KAFKA_CERTIFICATE_FILE"),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    variable: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"PORT": "1", "WORKER_PORT": "2", "DATABASE_URL": "postgresql://a:b@c/d"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("INTERNAL_TOKEN_SECRET", "s" * 32)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as end:
        load_settings(SampleSettings)
    assert end.value.code == 2
    assert named in capsys.readouterr().err
