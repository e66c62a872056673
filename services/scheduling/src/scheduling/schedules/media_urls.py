"""Check the addresses of media, and write them in ASCII, as providers fetch them."""

import ipaddress
import re
from urllib.parse import quote, urlsplit

import idna

MAX_LENGTH = 2048
_INVALID = "Enter a valid http or https URL."
_FORBIDDEN = re.compile(r"[\s\\\x00-\x1f\x7f]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_MAX_HOST = 253
# The characters of RFC 3986, and the percent sign, which begins a character that is encoded already.
_SAFE = "!#$%&'()*+,/:;=?@[]-._~"


def read_media_url(given: str) -> str:
    """Return the URL with an ASCII host (IDNA) and percent-encoded characters. Raises ValueError.

    A URL that is encoded already is returned as it is, with its host in lower case.
    """
    if _FORBIDDEN.search(given):
        raise ValueError(_INVALID)
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError:  # brackets that do not match, an invalid address in them, or an invalid port
        raise ValueError(_INVALID) from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError(_INVALID)
    user, at, address = parts.netloc.rpartition("@")
    _, bracket, port_text = address.rpartition("]") if "[" in address else address.partition(":")
    if "[" in address:
        shown = f"[{_read_ipv6(address[1 : address.rindex(']')])}]{port_text}"
    else:
        shown = _read_host(host) + (bracket and f":{port_text}")
    scheme, _, rest = given.partition("://")
    path = rest[len(parts.netloc) :]
    url = f"{scheme}://{quote(user, safe=_SAFE)}{at}{shown}{quote(path, safe=_SAFE)}"
    if len(url) > MAX_LENGTH:
        raise ValueError(f"Ensure this field has no more than {MAX_LENGTH} characters in its encoded form.")
    return url


def _read_ipv6(address: str) -> str:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError(_INVALID) from None
    return address


def _read_host(host: str) -> str:
    """Return the host in ASCII. Raises ValueError for anything but a domain name or an IPv4 address."""
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        raise ValueError(_INVALID) from None
    labels = name.removesuffix(".").split(".")
    if len(name) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(_INVALID)
    if labels[-1].isdigit():  # no top-level domain has digits only, so this can only be an address
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise ValueError(_INVALID) from None
    return name
