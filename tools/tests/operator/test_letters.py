"""Dead letters: listed, shown, published again, let pass."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Operator = Callable[..., Awaitable[tuple[int, str]]]
TOPIC, OTHER = "delivery.message-sent.v1", "delivery.stop-changed.v1"


@pytest.fixture
def bury(sql: Any) -> Callable[..., Awaitable[int]]:
    """`await bury("scheduling", body=b"…")`: a dead letter's id."""

    async def make(service: str, body: bytes = b'{"phone": "+61491570006"}', topic: str = TOPIC) -> int:
        rows = await sql(
            service,
            "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, key, body, error)"
            " VALUES (:topic, 3, (SELECT count(*) FROM dead_letters), sha256(:body), 'k7', :body, 'version: missing')"
            " RETURNING id",
            topic=topic,
            body=body,
        )
        return int(rows[0].id)

    return make


async def test_dead_letters_of_all_services_are_listed(operator: Operator, bury: Any) -> None:
    assert await operator("dead-letters", "list") == (0, "no dead letters\n")
    first, second = await bury("scheduling"), await bury("contacts", topic=OTHER)
    code, told = await operator("dead-letters", "list")
    assert code == 1
    assert f"scheduling {first}  " in told
    assert f"contacts {second}  " in told
    assert f"{TOPIC} 3/0  version: missing" in told
    assert "contacts" not in (await operator("dead-letters", "list", "--service", "scheduling"))[1]
    assert "contacts" not in (await operator("dead-letters", "list", "--topic", TOPIC))[1]


async def test_what_is_in_a_letter_is_shown_only_when_asked(operator: Operator, bury: Any) -> None:
    letter = str(await bury("scheduling"))
    code, told = await operator("dead-letters", "show", "--service", "scheduling", "--id", letter)
    assert code == 0
    for words in ("partition 3, offset 0", "version: missing", "k7", "25 bytes"):
        assert words in told
    assert "61491570006" not in told
    shown = await operator("dead-letters", "show", "--service", "scheduling", "--id", letter, "--reveal")
    assert "+61491570006" in shown[1]
    assert (await operator("dead-letters", "show", "--service", "scheduling"))[0] == 2, "say which"


async def test_replayed_letters_go_through_the_outbox_byte_for_byte(operator: Operator, bury: Any, sql: Any) -> None:
    ids = [await bury("scheduling", body) for body in (b"\xff\xfe\x00", b"{}", b"last")]
    other = await bury("scheduling", topic=OTHER)
    code, told = await operator("dead-letters", "replay", "--service", "scheduling", "--topic", TOPIC)
    assert (code, f"3 dead letters of {TOPIC}" in told) == (0, True)
    rows = await sql("scheduling", "SELECT topic, key, body FROM outbox ORDER BY id")
    assert [(row.topic, row.key, row.body) for row in rows] == [
        (TOPIC, "k7", body) for body in (b"\xff\xfe\x00", b"{}", b"last")
    ]
    assert [row.id for row in await sql("scheduling", "SELECT id FROM dead_letters")] == [other]
    words = ("dead-letters", "replay", "--service", "scheduling", "--id", str(ids[0]))
    assert await operator(*words) == (1, "no such dead letters\n")


async def test_more_letters_than_a_batch_are_replayed_once_each(operator: Operator, sql: Any) -> None:
    await sql(
        "delivery",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)"
        f" SELECT '{TOPIC}', 0, n, 'x', 'x', 'x' FROM generate_series(1, 1001) AS n",
    )
    code, told = await operator("dead-letters", "replay", "--service", "delivery", "--all")
    assert (code, "1001 dead letters" in told) == (0, True)
    assert (await sql("delivery", "SELECT count(*) AS number FROM outbox"))[0].number == 1001


async def test_letters_that_are_let_pass_count_no_more(operator: Operator, bury: Any, sql: Any) -> None:
    await bury("scheduling")
    await bury("scheduling", topic=OTHER)
    code, told = await operator("resume", "scheduling", "--topic", TOPIC)
    assert (code, f"{TOPIC}: 1 dead letters count no more" in told) == (0, True)
    rows = await sql("scheduling", "SELECT topic FROM dead_letters WHERE NOT passed")
    assert [row.topic for row in rows] == [OTHER]
    assert "(let pass)" in (await operator("dead-letters", "list", "--topic", TOPIC))[1]
    await operator("resume", "scheduling")
    assert "nothing stops scheduling" in (await operator("resume", "scheduling"))[1]
