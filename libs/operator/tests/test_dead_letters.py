"""Dead letters are listed, shown, replayed and acknowledged."""

from collections.abc import Awaitable, Callable

import pytest

from .conftest import Cooee, Sql

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


async def test_dead_letters_of_all_services_are_listed(cooee: Cooee, add_dead_letter: AddDeadLetter) -> None:
    empty = await cooee("dead-letters", "list")
    assert (empty.code, empty.out) == (0, "no dead letters\n")
    first, second = await add_dead_letter("scheduling"), await add_dead_letter("contacts", topic=OTHER)
    listed = await cooee("dead-letters", "list")
    assert (listed.code, len(listed.out.splitlines())) == (1, 4), "headings, two dead letters, their number"
    assert listed.out.splitlines()[2].split()[-5:] == [TOPIC, "3/0", "no", "version:", "missing"]
    document = (await cooee("dead-letters", "list", "--json")).document
    found = [(one["service"], one["id"], one["topic"], one["offset"]) for one in document["dead_letters"]]
    assert (document["unacknowledged"], found) == (2, [("contacts", second, OTHER, 0), ("scheduling", first, TOPIC, 0)])
    for choice in (("--service", "scheduling"), ("--topic", TOPIC)):
        (one,) = (await cooee("dead-letters", "list", "--json", *choice)).document["dead_letters"]
        assert one["service"] == "scheduling"


async def test_body_is_shown_only_with_phones_and_texts(cooee: Cooee, add_dead_letter: AddDeadLetter) -> None:
    dead_letter = str(await add_dead_letter("scheduling"))
    arguments = ("dead-letters", "show", "--service", "scheduling", "--id", dead_letter)
    shown = await cooee(*arguments)
    assert shown.code == 0
    for detail in ("partition 3, offset 0", "version: missing", "k7", "25 bytes"):
        assert detail in shown.out
    for options in ((), ("--show-phones",), ("--show-texts",)):
        for form in ((), ("--json",)):
            assert "61491570006" not in (await cooee(*arguments, *options, *form)).out
    both = ("--show-phones", "--show-texts")
    assert "+61491570006" in (await cooee(*arguments, *both)).out
    (one,) = (await cooee(*arguments, *both, "--json")).document["dead_letters"]
    assert (one["body"], one["body_bytes"], one["key"]) == ('{"phone": "+61491570006"}', 25, "k7")
    assert (await cooee("dead-letters", "show", "--service", "scheduling")).code == 2, "the command needs a choice"


async def test_replayed_bodies_are_unchanged(cooee: Cooee, add_dead_letter: AddDeadLetter, sql: Sql) -> None:
    ids = [await add_dead_letter("scheduling", body) for body in (b"\xff\xfe\x00", b"{}", b"last")]
    other = await add_dead_letter("scheduling", topic=OTHER)
    replayed = await cooee("dead-letters", "replay", "--service", "scheduling", "--topic", TOPIC)
    assert (replayed.code, f"3 dead letters of {TOPIC}" in replayed.out) == (0, True)
    rows = await sql("scheduling", "SELECT topic, key, body FROM outbox ORDER BY id")
    assert [(row.topic, row.key, row.body) for row in rows] == [
        (TOPIC, "k7", body) for body in (b"\xff\xfe\x00", b"{}", b"last")
    ]
    assert [row.id for row in await sql("scheduling", "SELECT id FROM dead_letters")] == [other]
    again = await cooee("dead-letters", "replay", "--service", "scheduling", "--id", str(ids[0]))
    assert (again.code, again.out, again.err) == (4, "", "cooee: scheduling has no such dead letters\n")


async def test_more_dead_letters_than_a_batch_are_replayed_once_each(cooee: Cooee, sql: Sql) -> None:
    await sql(
        "delivery",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)"
        f" SELECT '{TOPIC}', 0, n, 'x', 'x', 'x' FROM generate_series(1, 1001) AS n",
    )
    replayed = await cooee("dead-letters", "replay", "--service", "delivery", "--all", "--json")
    assert (replayed.code, replayed.document) == (
        0,
        {"service": "delivery", "replayed": {TOPIC: 1001}, "too_large": []},
    )
    assert (await sql("delivery", "SELECT count(*) AS number FROM outbox"))[0].number == 1001


async def test_acknowledged_ones_no_longer_count(cooee: Cooee, add_dead_letter: AddDeadLetter, sql: Sql) -> None:
    await add_dead_letter("scheduling")
    await add_dead_letter("scheduling", topic=OTHER)
    acknowledge = ("dead-letters", "acknowledge", "--service", "scheduling")
    done = await cooee(*acknowledge, "--topic", TOPIC, "--json")
    assert (done.code, done.document["acknowledged"]) == (0, {TOPIC: 1})
    rows = await sql("scheduling", "SELECT topic FROM dead_letters WHERE NOT acknowledged")
    assert [row.topic for row in rows] == [OTHER]
    listed = await cooee("dead-letters", "list", "--topic", TOPIC, "--json")
    assert (listed.code, listed.document["unacknowledged"], len(listed.document["dead_letters"])) == (0, 0, 1)
    listed = await cooee("dead-letters", "list")
    assert (listed.code, "1 dead letter is not acknowledged" in listed.out) == (1, True)
    assert f"{OTHER}: 1 dead letter is acknowledged" in (await cooee(*acknowledge, "--all")).out
    assert "no dead letters to acknowledge" in (await cooee(*acknowledge, "--all")).out
    assert "all dead letters are acknowledged" in (await cooee("dead-letters", "list")).out


async def test_events_that_were_too_large_are_not_replayed(
    cooee: Cooee, add_dead_letter: AddDeadLetter, sql: Sql
) -> None:
    large, small = await add_dead_letter("scheduling"), await add_dead_letter("scheduling", topic=OTHER)
    await sql("scheduling", "UPDATE dead_letters SET kafka_partition = -1 WHERE id = :id", id=large)
    replay = ("dead-letters", "replay", "--service", "scheduling")
    sentence = f"1 event too large to transmit cannot be replayed, only acknowledged: dead letter {large}"
    refused = await cooee(*replay, "--id", str(large), "--id", str(small))
    assert (refused.code, refused.err) == (5, f"cooee: {sentence}\n")
    assert await sql("scheduling", "SELECT FROM outbox") == []
    replayed = await cooee(*replay, "--all")
    assert (replayed.code, replayed.out.splitlines()[1:]) == (0, [sentence])
    assert f"1 dead letter of {OTHER} is in scheduling's outbox and will be transmitted again" in replayed.out
    assert [row.id for row in await sql("scheduling", "SELECT id FROM dead_letters")] == [large]
    assert (await cooee(*replay, "--all")).code == 5


@pytest.mark.parametrize("action", ["show", "replay", "acknowledge"])
@pytest.mark.parametrize("choice", [(), ("--all", "--topic", TOPIC), ("--all", "--id", "1")])
async def test_dead_letters_are_chosen_by_one_rule(cooee: Cooee, action: str, choice: tuple[str, ...]) -> None:
    refused = await cooee("dead-letters", action, "--service", "delivery", *choice)
    assert (refused.code, "--all" in refused.err) == (2, True)


async def test_only_the_chosen_ones_are_acknowledged(cooee: Cooee, add_dead_letter: AddDeadLetter, sql: Sql) -> None:
    chosen, other = await add_dead_letter("scheduling"), await add_dead_letter("scheduling", b"other")
    await cooee("dead-letters", "acknowledge", "--service", "scheduling", "--id", str(chosen))
    rows = await sql("scheduling", "SELECT id FROM dead_letters WHERE NOT acknowledged")
    assert [row.id for row in rows] == [other]
