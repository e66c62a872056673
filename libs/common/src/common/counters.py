"""Exact counts of rows, maintained in the writing transaction. Writers do not wait for each other.

`count(*)` over an organisation's rows grows with the organisation. A counter has several rows (slots) for each key.
A writer adds to a slot that no other transaction has locked, or inserts a new one, so a long import blocks no other
writer. The sum of the slots in one snapshot is exact. There are as many slots as there were concurrent writers of the
key.

`changes` counts the statements that changed a key's rows. As long as the sums of `total` and `changes` are the same,
the set of counted rows is the same, so positions in a list stay valid (common.pages). With `content`, that expression
has the same value in each row, too, so what a search found stays valid. A slot begins at a random number, so that a
database that was restored does not repeat the numbers that a process remembers.
"""
# ruff: noqa: S608  # names and conditions of migrations

from collections.abc import Iterator, Mapping

from common.migrations import protect, statements


def counter(
    service: str,
    name: str,
    table: str,
    *,
    keys: Mapping[str, tuple[str, str]],
    counted: str,
    content: str | None = None,
) -> Iterator[str]:
    """Return the statements that create a counter of a table's rows, for a migration.

    `name` is the counter's table: `organisation_id`, the keys, and `total`. `keys` are name → (type, expression over a
    row `r`). `counted` is the condition over `r` that a row counts. `content` is a text over `r` whose change is a
    change of the key's rows; it must begin with the row's id. Call it before the table has rows.
    """
    columns = ["organisation_id", *keys]
    types = {"organisation_id": "text", **{key: kind for key, (kind, _) in keys.items()}}
    values = ["r.organisation_id", *(expression for _, expression in keys.values())]
    yield from statements(
        f"""
        CREATE TABLE {name} (
            slot bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            {", ".join(f"{column} {types[column]} NOT NULL" for column in columns)},
            total bigint NOT NULL,
            changes bigint NOT NULL DEFAULT 1 + floor(random() * 1e12)
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
        CREATE INDEX {name}_keys ON {name} ({", ".join(columns)});
        {protect(name, service)}
        """
    )
    yield _function(name, columns, values, counted=counted, content=content)
    for event, tables in (
        ("insert", "NEW TABLE AS new_rows"),
        ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("delete", "OLD TABLE AS old_rows"),
    ):
        yield (
            f"CREATE TRIGGER {name}_{event} AFTER {event.upper()} ON {table} REFERENCING {tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}_apply('{event}')"
        )


def _function(name: str, columns: list[str], values: list[str], *, counted: str, content: str | None) -> str:
    """Return the trigger function, which adds the difference that a statement makes to each key."""
    selected = ", ".join(f"{value} AS {column}" for column, value in zip(columns, values, strict=True))
    # A row that stays the same adds nothing: neither to the difference nor to the sum of the hashes.
    hashed = f"hashtextextended({content}, 0)::numeric" if content else "0"
    new = f"SELECT {selected}, 1 AS difference, {hashed} AS content FROM new_rows r WHERE {counted}"
    old = f"SELECT {selected}, -1 AS difference, -{hashed} AS content FROM old_rows r WHERE {counted}"
    same_key = " AND ".join(f"c.{column} = change.{column}" for column in columns)
    listed = ", ".join(columns)
    changed = ", ".join(f"change.{column}" for column in columns)
    apply = f"""
            UPDATE {name} SET total = total + change.difference, changes = changes + 1 WHERE slot = (
                SELECT c.slot FROM {name} c WHERE {same_key} LIMIT 1 FOR UPDATE SKIP LOCKED);
            IF NOT FOUND THEN
                INSERT INTO {name} ({listed}, total) VALUES ({changed}, change.difference);
            END IF;
    """

    def loop(source: str) -> str:
        return f"""
        FOR change IN
            SELECT {listed}, sum(difference)::bigint AS difference FROM ({source}) AS d
            GROUP BY {listed} HAVING sum(difference) <> 0 OR sum(content) <> 0
        LOOP {apply} END LOOP;
        """

    return f"""
    CREATE FUNCTION {name}_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    DECLARE change record;
    BEGIN
        IF TG_ARGV[0] = 'insert' THEN {loop(new)}
        ELSIF TG_ARGV[0] = 'delete' THEN {loop(old)}
        ELSE {loop(f"{new} UNION ALL {old}")}
        END IF;
        RETURN NULL;
    END $$
    """
