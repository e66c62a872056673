"""Dead letters are listed, shown, replayed and acknowledged."""

from collections.abc import Awaitable, Callable

import pytest

from .conftest import Operator, Sql

TOPIC, OTHER = "delivery.message-sent.v1", "delivery.opt-out-changed.v1"


AddDeadLetter = Callable[..., Awaitable[int]]


@pytest.fixture
def add_dead_letter(sql: Sql) -> AddDeadLetter:
    """`await add_dead_letter("scheduling", body=b"…")` stores a dead letter and returns its id."""

    async def add(service: str, body: bytes = b'{"phone": "+61491570006"}', topic: str = TOPIC) -> int:
        rows = await sql(
            service,
            "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, key, body, error)"
            " VALUES (:topic, 3, (SELECT count(*) FROM dead_letters), sha256(:body), 'k7', :body, 'version: missing')"
            " RETURNING id",
            topic=topic,
            body=body,
        )
        return int(rows[0].id)

    return add


async def test_dead_letters_of_all_services_are_listed(operator: Operator, add_dead_letter: AddDeadLetter) -> None:
    assert await operator("dead-letters", "list") == (0, "no dead letters\n")
    first, second = await add_dead_letter("scheduling"), await add_dead_letter("contacts", topic=OTHER)
    code, output = await operator("dead-letters", "list")
    assert code == 1
    assert f"scheduling {first}  " in output
    assert f"contacts {second}  " in output
    assert f"{TOPIC} 3/0  version: missing" in output
    assert "contacts" not in (await operator("dead-letters", "list", "--service", "scheduling"))[1]
    assert "contacts" not in (await operator("dead-letters", "list", "--topic", TOPIC))[1]


async def test_body_is_shown_only_with_reveal(operator: Operator, add_dead_letter: AddDeadLetter) -> None:
    dead_letter = str(await add_dead_letter("scheduling"))
    code, output = await operator("dead-letters", "show", "--service", "scheduling", "--id", dead_letter)
    assert code == 0
    for detail in ("partition 3, offset 0", "version: missing", "k7", "25 bytes"):
        assert detail in output
    assert "61491570006" not in output
    shown = await operator("dead-letters", "show", "--service", "scheduling", "--id", dead_letter, "--reveal")
    assert "+61491570006" in shown[1]
    assert (await operator("dead-letters", "show", "--service", "scheduling"))[0] == 2, "the command needs a choice"


async def test_replayed_bodies_are_unchanged(operator: Operator, add_dead_letter: AddDeadLetter, sql: Sql) -> None:
    ids = [await add_dead_letter("scheduling", body) for body in (b"\xff\xfe\x00", b"{}", b"last")]
    other = await add_dead_letter("scheduling", topic=OTHER)
    code, output = await operator("dead-letters", "replay", "--service", "scheduling", "--topic", TOPIC)
    assert (code, f"3 dead letters of {TOPIC}" in output) == (0, True)
    rows = await sql("scheduling", "SELECT topic, key, body FROM outbox ORDER BY id")
    assert [(row.topic, row.key, row.body) for row in rows] == [
        (TOPIC, "k7", body) for body in (b"\xff\xfe\x00", b"{}", b"last")
    ]
    assert [row.id for row in await sql("scheduling", "SELECT id FROM dead_letters")] == [other]
    arguments = ("dead-letters", "replay", "--service", "scheduling", "--id", str(ids[0]))
    assert await operator(*arguments) == (1, "no such dead letters\n")


async def test_more_dead_letters_than_a_batch_are_replayed_once_each(operator: Operator, sql: Sql) -> None:
    await sql(
        "delivery",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)"
        f" SELECT '{TOPIC}', 0, n, 'x', 'x', 'x' FROM generate_series(1, 1001) AS n",
    )
    code, output = await operator("dead-letters", "replay", "--service", "delivery", "--all")
    assert (code, "1001 dead letters" in output) == (0, True)
    assert (await sql("delivery", "SELECT count(*) AS number FROM outbox"))[0].number == 1001


async def test_acknowledged_ones_no_longer_count(operator: Operator, add_dead_letter: AddDeadLetter, sql: Sql) -> None:
    await add_dead_letter("scheduling")
    await add_dead_letter("scheduling", topic=OTHER)
    code, output = await operator("acknowledge", "scheduling", "--topic", TOPIC)
    assert (code, f"{TOPIC}: 1 dead letters are acknowledged" in output) == (0, True)
    rows = await sql("scheduling", "SELECT topic FROM dead_letters WHERE NOT acknowledged")
    assert [row.topic for row in rows] == [OTHER]
    assert "(acknowledged)" in (await operator("dead-letters", "list", "--topic", TOPIC))[1]
    await operator("resume", "scheduling")  # the alias
    assert "no dead letters to acknowledge" in (await operator("acknowledge", "scheduling"))[1]
