"""Attacks on the gateway over a real socket: headers, tokens and paths that try to pass its checks."""

import asyncio
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from yarl import URL

from .conftest import Issuer, Start, Upstream
from .test_auth import PARTY, encode

Upstreams = dict[str, Upstream]


@pytest.fixture
def base(start: Start) -> URL:
    """The URL of a gateway that checks `azp`."""
    return URL(start(clerk_authorized_parties=PARTY))


async def send(base: URL, line: bytes, *headers: bytes) -> tuple[int, dict[str, Any]]:
    """Send a request as these bytes. Return the status and the JSON of the answer."""
    reader, writer = await asyncio.open_connection(base.host, base.port)
    try:
        writer.write(b"\r\n".join([line, b"Host: gateway.test", *headers, b"Connection: close"]) + b"\r\n\r\n")
        head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return int(head.split()[1]), json.loads(body)


async def send_token(base: URL, *values: bytes) -> tuple[int, str | None]:
    """Send a request with these `Authorization` headers. Return the status and the code of the error."""
    status, body = await send(base, b"GET /api/contacts/ HTTP/1.1", *(b"Authorization: " + value for value in values))
    assert status == 200 or body["request_id"]
    return status, body.get("code")


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        (b"Bearer %b", 200, None),
        (b"bearer %b", 200, None),
        (b"BEARER   %b  ", 200, None),
        (b"Bearer\t%b", 401, "not_authenticated"),
        (b"Bearer%b", 401, "not_authenticated"),
        (b"Bearer:%b", 401, "not_authenticated"),
        (b"Bearer", 401, "not_authenticated"),
        (b"%b", 401, "not_authenticated"),
        (b"Basic %b", 401, "not_authenticated"),
        (b"Token %b", 401, "not_authenticated"),
        (b"\xc2\xa0Bearer %b", 401, "not_authenticated"),
        (b"Bearer %b %b", 401, "authentication_failed"),
        (b"Bearer %b,%b", 401, "authentication_failed"),
        (b"Bearer Bearer %b", 401, "authentication_failed"),
        (b'Bearer "%b"', 401, "authentication_failed"),
        (b"Bearer %b=", 401, "authentication_failed"),
        (b"Bearer %b\xff", 401, "authentication_failed"),
        (b"Bearer %b\xc3\xa9", 401, "authentication_failed"),
        (b"Bearer " + b"a" * 20_000, 401, "authentication_failed"),
        (b"Bearer " + b"a." * 8_000, 401, "authentication_failed"),
        (b"Bearer " + b"a" * 40_000, 431, "headers_too_large"),
        (b"Bearer %b\x00", 400, "invalid"),
        (b"Bearer \x7f%b", 400, "invalid"),
        (b"Bearer %b\r\n\tmore", 400, "invalid"),
    ],
)
async def test_form_of_the_authorization_header(
    base: URL, issuer: Issuer, form: bytes, status: int, code: str | None
) -> None:
    assert await send_token(base, form.replace(b"%b", issuer.token().encode())) == (status, code)


async def test_two_authorization_headers_are_refused(base: URL, issuer: Issuer) -> None:
    good, other = (f"Bearer {issuer.token(sub=user)}".encode() for user in ("user_1", "user_2"))
    for values in ((good, other), (good, good), (b"Bearer x", good), (good, b"Bearer x"), (good, b"")):
        assert await send_token(base, *values) == (401, "authentication_failed")


def sign_with_header(issuer: Issuer, **header: Any) -> str:
    """Return valid claims, signed with the right key, under a changed header. None removes a field."""
    fields = {"alg": "RS256", "typ": "JWT", "kid": issuer.kid, **header}
    signed = f"{encode({name: value for name, value in fields.items() if value is not None})}.{encode(issuer.claims())}"
    algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    return f"{signed}.{encode(algorithm.sign(signed.encode(), issuer.key))}"


KIDS = [
    *("../../../../etc/passwd", "/dev/null", "file:///etc/passwd", "http://127.0.0.1:1/jwks", "ins_1\x00", " ins_1"),
    *("INS_1", "' OR 1=1 --", "a" * 10_000, "\ud800", "", 7, True, ["ins_1"], {"kid": "ins_1"}, None),
]


@pytest.mark.parametrize("kid", KIDS, ids=[repr(kid)[:24] for kid in KIDS])
async def test_unknown_or_odd_key_id_is_refused(base: URL, issuer: Issuer, kid: Any) -> None:
    token = sign_with_header(issuer, kid=kid)
    assert await send_token(base, f"Bearer {token}".encode()) == (401, "authentication_failed")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "rs256"},
        {"alg": "RS384"},
        {"alg": "PS256"},
        {"alg": "HS256"},
        {"alg": ""},
        {"alg": None},
        {"alg": 256},
        {"typ": "at+jwt"},
        {"typ": "JWE"},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
    ],
    ids=str,
)
async def test_other_algorithm_type_or_extension_is_refused(base: URL, issuer: Issuer, header: dict[str, Any]) -> None:
    token = sign_with_header(issuer, **header)
    assert await send_token(base, f"Bearer {token}".encode()) == (401, "authentication_failed")


async def test_key_that_a_token_brings_is_not_used(base: URL, issuer: Issuer) -> None:
    other = Issuer(kid="ins_evil", jwks_url=issuer.jwks_url)
    own = {"jwk": other.jwk(), "jku": issuer.jwks_url, "x5u": issuer.jwks_url, "x5c": ["AAAA"]}
    for kid in (other.kid, issuer.kid):
        token = sign_with_header(other, kid=kid, **own)
        assert await send_token(base, f"Bearer {token}".encode()) == (401, "authentication_failed")


async def test_public_key_as_shared_secret_is_refused(base: URL, issuer: Issuer) -> None:
    for secret in (issuer.pem, issuer.pem.strip(), issuer.jwk()["n"], ""):
        signed = f"{encode({'alg': 'HS256', 'typ': 'JWT', 'kid': issuer.kid})}.{encode(issuer.claims())}"
        signature = encode(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())
        assert await send_token(base, f"Bearer {signed}.{signature}".encode()) == (401, "authentication_failed")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: 1\r\nContent-Length: 2", 400),
        (b"Content-Length: +1", 400),
        (b"Content-Length: 0x1", 400),
        (b"Content-Length: 1, 1", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: identity", 400),
        (b"Transfer-Encoding : chunked", 400),
        (b"Transfer-Encoding: chunked, gzip", 400),
        (b" X-Folded: 1", 400),
        (b"X Space: 1", 400),
        (b": no name", 400),
        (b"no colon", 400),
        (b"X-Nul: a\x00b", 400),
        (b"X-Line: a\rb", 400),
    ],
)
async def test_header_that_servers_read_differently_is_refused(
    base: URL, issuer: Issuer, upstreams: Upstreams, header: bytes, status: int
) -> None:
    token = b"Authorization: Bearer " + issuer.token().encode()
    answered, body = await send(base, b"POST /api/contacts/ HTTP/1.1", token, header)
    assert (answered, body["code"]) == (status, "invalid")
    assert not upstreams["contacts"].requests


async def test_trailer_of_a_body_is_not_a_header(base: URL, upstreams: Upstreams) -> None:
    body = b"1\r\na\r\n0\r\nX-Request-ID: of-the-trailer\r\nX-Trailer: 1\r\n\r\n"
    reader, writer = await asyncio.open_connection(base.host, base.port)
    try:
        head = b"POST /api/webhooks/providers/x/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n"
        writer.write(head + b"Connection: close\r\n\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    received = upstreams["delivery"].requests[-1]
    assert received["body"] == "a"
    assert "x-trailer" not in received["headers"]
    assert received["headers"]["x-request-id"] != "of-the-trailer"


@pytest.mark.parametrize(
    "path",
    [
        b"/internal/identity/",
        b"//internal/identity/",
        b"/./internal/identity/",
        b"/%69nternal/identity/",
        b"/%2finternal/identity/",
        b"/%2e%2e/internal/identity/",
        b"/api/../internal/identity/",
        b"/api/%2e%2e/internal/identity/",
        b"/api/v2/../../internal/identity/",
        b"/api/v2/%2e%2e/%2e%2e/internal/identity/",
        b"/api/contacts/..",
        b"/api/contacts/%2e%2e/%2e%2e/internal/identity/",
        b"/api/contacts/..%2f..%2finternal%2fidentity/",
        b"/media/../internal/identity/",
        b"/media/%2e%2e/internal/identity/",
        b"/media/..%2finternal%2fidentity/",
        b"/API/contacts/",
        b"/api%2fcontacts/../x",
        b"\\internal\\identity\\",
        b"/openapi.json",
        b"/health/../internal/identity/",
        b"/docs",
    ],
)
async def test_path_that_leaves_the_public_routes_is_refused(
    base: URL, issuer: Issuer, upstreams: Upstreams, path: bytes
) -> None:
    token = b"Authorization: Bearer " + issuer.token().encode()
    status, body = await send(base, b"POST " + path + b" HTTP/1.1", token, b"Content-Length: 0")
    assert status in (400, 404)
    assert body["code"] in ("invalid", "not_found")
    assert not [request for upstream in upstreams.values() for request in upstream.requests]


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        (b"/api/contacts/%252e%252e/", "/api/contacts/%252e%252e/"),
        (b"/api/contacts/%c0%ae%c0%ae/", "/api/contacts/%EF%BF%BD%EF%BF%BD%EF%BF%BD%EF%BF%BD/"),
        (b"/api/contacts/..%5c..%5cinternal/", "/api/contacts/..%5C..%5Cinternal/"),
        (b"/api/contacts/%3finternal/", "/api/contacts/%3Finternal/"),
        (b"/api/contacts/%23/", "/api/contacts/%23/"),
        (b"/api/contacts/a%0dX-Evil:%201/", "/api/contacts/a%0DX-Evil:%201/"),
        (b"/api/contacts/%00/", "/api/contacts/%00/"),
        (b"/api/contacts//", "/api/contacts//"),
        (b"/api/contacts/...;/", "/api/contacts/...;/"),
    ],
)
async def test_odd_path_below_a_route_stays_below_it(
    base: URL, issuer: Issuer, upstreams: Upstreams, path: bytes, forwarded: str
) -> None:
    token = b"Authorization: Bearer " + issuer.token().encode()
    status, _ = await send(base, b"GET " + path + b" HTTP/1.1", token)
    assert status == 200
    assert upstreams["contacts"].requests[-1]["raw"] == forwarded
    assert "x-evil" not in upstreams["contacts"].requests[-1]["headers"]
