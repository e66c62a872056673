"""Tokens that are refused, and the claims of tokens that are accepted."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.errors import NotAuthenticated, Unauthenticated, Unavailable
from gateway.auth import Authenticator, Claims, decode_permissions, read_claims
from gateway.keys import JwksKeys, PemKey
from gateway.settings import Settings, read_public_key

from .conftest import ISSUER, Clock, Issuer, Start, Upstream

PARTY = "https://app.test"


@pytest.fixture
def authenticator(issuer: Issuer) -> Authenticator:
    return Authenticator(ISSUER, (PARTY,), JwksKeys(issuer.jwks_url).get)


def encode(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def is_refused(authenticator: Authenticator, token: str) -> bool:
    try:
        await authenticator.authenticate(f"Bearer {token}")
    except Unauthenticated:
        return True
    return False


async def test_valid_token_gives_its_claims(authenticator: Authenticator, issuer: Issuer) -> None:
    claims = await authenticator.authenticate(f"bearer  {issuer.token()}")
    assert (claims.user, claims.organisation, claims.slug, claims.role) == ("user_1", "org_7", "example-co", "admin")
    assert claims.permissions == ("org:messages:send", "org:messages:read", "org:contacts:read")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Token x", "eyJ"])
async def test_missing_token_raises_not_authenticated(authenticator: Authenticator, header: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        await authenticator.authenticate(header)


def dated(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the claims with `exp`, `nbf` and `iat` in seconds from now, the time at which the test runs."""
    times = {name: int(time.time()) + value for name, value in changes.items() if isinstance(value, int)}
    return {**changes, **{name: at for name, at in times.items() if name in ("exp", "nbf", "iat")}}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://clerk.other"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"azp": "https://evil.test"},
        {"azp": None},
        {"azp": [PARTY]},
        {"exp": None},
        {"exp": -10},
        {"exp": "soon"},
        {"exp": 1e400},
        {"nbf": 30},
        {"iat": 30},
        {"iat": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sts": "pending"},
        {"sts": "ended"},
        {"o": {"id": 7}},
        {"o": {"id": "org\x007"}},
    ],
)
async def test_token_with_wrong_claims_is_refused(
    authenticator: Authenticator, issuer: Issuer, changes: dict[str, Any]
) -> None:
    assert await is_refused(authenticator, issuer.token(**dated(changes))) is True


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": -2},
        {"nbf": 3},
        {"iat": 3},
        {"nbf": None},
        {"aud": "something"},
        {"sts": None},
        {"o": None},
    ],
)
async def test_token_within_leeway_or_without_optional_claims_is_accepted(
    authenticator: Authenticator, issuer: Issuer, changes: dict[str, Any]
) -> None:
    assert await is_refused(authenticator, issuer.token(**dated(changes))) is False


async def test_any_party_is_accepted_without_configured_parties(issuer: Issuer) -> None:
    authenticator = Authenticator(ISSUER, (), JwksKeys(issuer.jwks_url).get)
    assert await is_refused(authenticator, issuer.token(azp=None)) is False
    assert await is_refused(authenticator, issuer.token(azp="https://any.test")) is False


async def test_token_of_another_key_algorithm_or_kind_is_refused(authenticator: Authenticator, issuer: Issuer) -> None:
    claims, header = issuer.claims(), {"kid": issuer.kid}
    other = rsa.generate_private_key(65537, 2048)
    signed = jwt.encode(claims, other, algorithm="RS256", headers=header)
    unknown = jwt.encode(claims, other, algorithm="RS256", headers={"kid": "ins_other"})
    no_kid = jwt.encode(claims, issuer.key, algorithm="RS256")
    longer = jwt.encode(claims, issuer.key, algorithm="RS512", headers=header)
    curve = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=header)
    access = jwt.encode(claims, issuer.key, algorithm="RS256", headers={**header, "typ": "at+jwt"})
    unsigned = f"{encode({'alg': 'none', 'typ': 'JWT', **header})}.{encode(claims)}."
    confused = f"{encode({'alg': 'HS256', 'typ': 'JWT', **header})}.{encode(claims)}"
    confused += "." + encode(hmac.new(issuer.pem.encode(), confused.encode(), hashlib.sha256).digest())
    for token in (signed, unknown, no_kid, longer, curve, access, unsigned, confused):
        assert await is_refused(authenticator, token), token
    genuine = issuer.token()
    assert await is_refused(authenticator, genuine[:-6] + "AAAAAA")
    head, _, signature = genuine.split(".")
    assert await is_refused(authenticator, f"{head}.{encode({**claims, 'sub': 'user_2'})}.{signature}")


@pytest.mark.parametrize("prefix", ["m2m_", "mt_", "oat_", "ak_"])
async def test_machine_token_is_refused(authenticator: Authenticator, issuer: Issuer, prefix: str) -> None:
    assert await is_refused(authenticator, prefix + issuer.token())


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "...",
        "é.è.à",
        encode(b"\xff\xfe") + ".e.e",
        encode([1]) + ".e.e",
        encode({"alg": "RS256", "kid": {"a": 1}}) + ".e.e",
        encode({"alg": ["RS256"], "kid": "ins_1"}) + ".e.e",
        encode(b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}") + ".e.e",
        "a" * 40_000,
    ],
)
async def test_malformed_token_is_refused(authenticator: Authenticator, token: str) -> None:
    assert await is_refused(authenticator, token)


async def test_token_is_cached_until_it_expires(issuer: Issuer, clock: Clock) -> None:
    keys, lookups = PemKey(issuer.pem), []

    async def find_key(kid: str | None) -> Any:
        lookups.append(kid)
        return await keys.get(kid)

    authenticator = Authenticator(ISSUER, (), find_key, max_cached=2, clock=clock)
    token = issuer.token(exp=int(clock()) + 60)
    for passed, verified in ((0, 1), (50, 1), (16, 2)):
        clock.now += passed
        await authenticator.authenticate(f"Bearer {token}")
        assert len(lookups) == verified
    clock.now -= 66
    for user in ("user_2", "user_3"):
        await authenticator.authenticate(f"Bearer {issuer.token(sub=user)}")
    await authenticator.authenticate(f"Bearer {token}")
    assert len(lookups) == 5  # the cache has two tokens


async def test_revoked_key_is_refused_after_five_minutes(issuer: Issuer, clock: Clock) -> None:
    authenticator = Authenticator(ISSUER, (), JwksKeys(issuer.jwks_url, clock=clock).get, clock=clock)
    token = issuer.token(exp=int(clock()) + 3600)
    assert await is_refused(authenticator, token) is False
    issuer.published = [{**issuer.jwk(), "kid": "ins_2"}]
    assert await is_refused(authenticator, token) is False
    clock.now += 301
    assert await is_refused(authenticator, token) is True


async def test_unknown_key_is_fetched_at_most_every_thirty_seconds(issuer: Issuer, clock: Clock) -> None:
    keys = JwksKeys(issuer.jwks_url, clock=clock)
    assert all(await asyncio.gather(*(keys.get(issuer.kid) for _ in range(20))))
    assert issuer.fetches == 1
    issuer.published.append({**issuer.jwk(), "kid": "ins_2"})
    assert await keys.get("ins_2") is None
    assert issuer.fetches == 1
    clock.now += 31
    assert await keys.get("ins_2") is not None
    await keys.get("ins_3")
    assert issuer.fetches == 2


async def test_cached_keys_are_used_while_the_jwks_is_unavailable(issuer: Issuer, clock: Clock) -> None:
    keys = JwksKeys(issuer.jwks_url, clock=clock)
    assert await keys.get(issuer.kid) is not None
    issuer.broken = True
    clock.now += 400
    assert await keys.get(issuer.kid) is not None
    assert issuer.fetches == 2


async def test_jwks_that_was_never_read_raises_unavailable(issuer: Issuer) -> None:
    issuer.broken = True
    with pytest.raises(Unavailable):
        await JwksKeys(issuer.jwks_url).get(issuer.kid)


async def test_keys_for_other_purposes_are_ignored(issuer: Issuer) -> None:
    good = issuer.jwk()
    issuer.published = [
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "alg", "alg": "RS512"},
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
        {**good, "kid": "broken", "n": "?"},
        {name: value for name, value in good.items() if name != "kid"} | {"kid": 7},
        good,
    ]
    keys = JwksKeys(issuer.jwks_url)
    assert await keys.get(good["kid"]) is not None
    assert [await keys.get(kid) for kid in ("enc", "alg", "oct", "broken", None)] == [None] * 5


def test_pem_in_any_usual_form_is_read(issuer: Issuer) -> None:
    pem = issuer.pem
    bare = "".join(pem.strip().splitlines()[1:-1])
    for form in (pem, pem.replace("\n", "\\n"), pem.replace("\n", ""), bare, f'"{pem}"', pem.replace("\n", "\r\n")):
        assert read_public_key(form).public_numbers() == issuer.key.public_key().public_numbers()
    for bad in ("x", "-----BEGIN PUBLIC KEY-----", pem[:80]):
        with pytest.raises(ValueError, match="RSA public key"):
            read_public_key(bad)


async def test_pem_verifies_without_a_jwks(issuer: Issuer) -> None:
    authenticator = Authenticator(ISSUER, (), PemKey(issuer.pem).get)
    assert await is_refused(authenticator, issuer.token()) is False
    assert issuer.fetches == 0


@pytest.mark.parametrize(
    ("features", "names", "bitmaps", "permissions"),
    [
        (
            "o:dashboard,o:teams",
            "manage,read",
            "3,2",
            ["org:dashboard:manage", "org:dashboard:read", "org:teams:read"],
        ),
        (
            "o:messages,o:contacts,o:billing",
            "send,read,manage",
            "3,6,0",
            ["org:messages:send", "org:messages:read", "org:contacts:read", "org:contacts:manage"],
        ),
        ("o:messages", "send", "1", ["org:messages:send"]),
        ("o:messages", "send", "0", []),
        ("o:messages,o:contacts", "read", "1", ["org:messages:read"]),
        ("ou:shared,o:teams", "manage,read", "1,2", ["org:shared:manage", "org:teams:read"]),
        ("", "", "", []),
        (
            "u:basic,o:dashboard,o:teams",
            "manage,read",
            "3,2",
            ["org:dashboard:manage", "org:dashboard:read", "org:teams:read"],
        ),
        (None, "read", "1", []),
        ("o:a", "read", "x,-1,", []),
        ("o:a,,o:b", "read", "1", ["org:a:read"]),
    ],
)
def test_version_2_claims_give_their_permissions(
    features: str | None, names: str, bitmaps: str, permissions: list[str]
) -> None:
    assert list(decode_permissions(features, names, bitmaps)) == permissions


def test_version_1_claims_are_read() -> None:
    claims = read_claims(
        {
            "sub": "user_1",
            "iat": 5,
            "exp": 65,
            "org_id": "org_7",
            "org_slug": "example-co",
            "org_role": "org:admin",
            "org_permissions": ["org:messages:send", 7],
        }
    )
    assert claims == Claims(
        user="user_1",
        organisation="org_7",
        slug="example-co",
        role="admin",
        permissions=("org:messages:send",),
        issued_at=5,
        expires_at=65,
    )


async def test_refused_token_answers_401_and_missing_organisation_403(
    start: Start, issuer: Issuer, upstreams: dict[str, Upstream]
) -> None:
    async with aiohttp.ClientSession(start(clerk_authorized_parties=f"https://a.test, {PARTY}")) as client:
        for headers, status, code in (
            ({}, 401, "not_authenticated"),
            ({"Authorization": "Bearer x"}, 401, "authentication_failed"),
            (issuer.headers(azp="https://evil.test"), 401, "authentication_failed"),
            (issuer.headers(o=None), 403, "permission_denied"),
            (issuer.headers(), 200, None),
        ):
            async with client.post("/api/contacts/", json={}, headers=headers) as answer:
                body = await answer.json()
            assert (answer.status, body.get("code")) == (status, code)
            assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
            assert status == 200 or body["request_id"] == answer.headers["X-Request-ID"]
    assert len(upstreams["contacts"].requests) == 1


def test_invalid_setting_is_named(settings: Callable[..., Settings]) -> None:
    for changes in (
        {"clerk_jwt_key": "nonsense"},
        {"clerk_issuer": ""},
        {"throttle_rate_sms": "many"},
        {"throttle_rate_sms": "0/min"},
        {"route_permissions": "{"},
        {"route_permissions": '{"/api/sms/send/": "x"}'},
    ):
        with pytest.raises(ValueError, match=next(iter(changes))):
            settings(**changes)


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "GATEWAY_PORT": "25001",
        "INTERNAL_TOKEN_SECRET": "s" * 32,
        "CLERK_ISSUER": ISSUER,
        "CLERK_AUTHORIZED_PARTIES": "https://a.test,https://b.test",
        "CORS_ALLOWED_ORIGINS": "",
        "ROUTE_PERMISSIONS": '{"POST /api/sms/send/": "org:messages:send"}',
        "VALKEY_URL": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert (read.port, read.jwks_url) == (25001, f"{ISSUER}/.well-known/jwks.json")
    assert (read.clerk_authorized_parties, read.cors_allowed_origins) == (("https://a.test", "https://b.test"), ())
    assert (read.route_permissions, read.valkey_url) == ({"POST /api/sms/send/": "org:messages:send"}, None)
