"""The addresses of media: which are accepted, and how they are written."""

import pytest

from scheduling.schedules.media_urls import read_media_url
from services.scheduling.tests.stage import Stage, soon


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1", "http://]", "http://@/", "http://[1]/", "http://", "https:///a.png", "//a.au/b", "a.au/b",
        "ftp://a.au/b", "file:///etc/passwd", "javascript:alert(1)", "http:a.au/b", "https://a.au/b c", "https://a b/c",
        "https://a.au\\@b.au/", "https://a.au/\u00a0b", "https://a.au/\u3000b", "https://a.au:0/", "https://a.au:65536/",
        "https://a.au:x/", "https://a.au:８０/", "https://.au/", "https://a..au/", "https://-a.au/", "https://a-.au/",
        "https://" + "a" * 64 + ".au/", "https://" + "a." * 127 + "au/", "https://a!b.au/", "https://%61.au/",
        "https://1.2.3/", "https://1.2.3.256/", "https://999/", "https://xn--\u00fc.au/", "https://\u200b/",
        "https://a.au/" + "é" * 400,
    ],
)  # fmt: skip
def test_a_url_that_no_provider_can_fetch_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"valid http or https URL|2048"):
        read_media_url(url)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("https://a.au/b.png?x=1&y=%C3%A9#z", None),
        ("http://localhost:8080/media/a.png", None),
        ("http://192.0.2.7/a", None),
        ("http://[2001:db8::1]:8080/a", None),
        ("https://user:secret@a.au/b", None),
        ("https://a.au", None),
        ("https://a_b.au./~c/(d)!$'*+,;=:@[]", None),
        ("https://A.AU/B", "https://a.au/B"),
        ("https://a.au/b?y=é", "https://a.au/b?y=%C3%A9"),
        ("https://a.au/图/😀.png", "https://a.au/%E5%9B%BE/%F0%9F%98%80.png"),
        ("https://a.au/<b>|{c}", "https://a.au/%3Cb%3E%7C%7Bc%7D"),
        ("https://Bücher.example:8443/é", "https://xn--bcher-kva.example:8443/%C3%A9"),
        ("https://例え.テスト/a", "https://xn--r8jz45g.xn--zckzah/a"),
    ],
)
def test_a_url_is_stored_in_ascii(given: str, stored: str | None) -> None:
    assert read_media_url(given) == (stored or given)
    assert read_media_url(stored or given) == (stored or given), "what was stored can be written back"


async def test_every_media_url_of_the_api_is_checked_and_encoded(stage: Stage) -> None:
    mms = {"format": "mms", "text": "x", "scheduled_time": soon()}
    group, shown = stage.make_group(1), "https://xn--bcher-kva.example/?y=%C3%A9"
    for path, body in (
        ("/api/schedules/", {**mms, "phone": "0491570006"}),
        ("/api/group-schedules/", {**mms, "name": "n", "group_id": group}),
        ("/api/sms/send-mms/", {"message": "x", "recipient": "0491570006"}),
    ):
        answer = await stage.client("POST", path, {**body, "media_url": "http://[::1"})
        assert (answer.status_code, next(iter(answer.json()))) == (400, "media_url")
        made = await stage.client.ok("POST", path, {**body, "media_url": "https://Bücher.example/?y=é"})
        if "media_url" in made:
            assert made["media_url"] == shown
    assert [event.media_url for event in await stage.dispatches()] == [shown]
