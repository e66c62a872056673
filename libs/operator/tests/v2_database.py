"""A database of v2, as Django made it, with the faults that such databases have."""

import asyncpg

_TABLES = """
    CREATE TABLE app_organisation (id bigserial PRIMARY KEY, clerk_org_id text, name text, slug text);
    CREATE TABLE app_user (id bigserial PRIMARY KEY, clerk_id text, first_name text, last_name text, email text);
    CREATE TABLE app_organisationmembership (
        id bigserial PRIMARY KEY, organisation_id bigint, user_id bigint, role text);
    CREATE TABLE app_contact (
        id bigserial PRIMARY KEY, organisation_id bigint, first_name text, last_name text, phone text, email text,
        company text, user_id bigint, is_active boolean, opt_out boolean, created_by_id bigint, updated_by_id bigint,
        created_at timestamptz, updated_at timestamptz);
    CREATE TABLE app_contactgroup (
        id bigserial PRIMARY KEY, organisation_id bigint, name text, description text, is_active boolean,
        created_by_id bigint, updated_by_id bigint, created_at timestamptz, updated_at timestamptz);
    CREATE TABLE app_contactgroupmember (id bigserial PRIMARY KEY, group_id bigint, contact_id bigint);
    CREATE TABLE app_template (
        id bigserial PRIMARY KEY, organisation_id bigint, name text, text text, is_active boolean,
        created_by_id bigint, updated_by_id bigint, created_at timestamptz, updated_at timestamptz);
    CREATE TABLE app_config (id bigserial PRIMARY KEY, organisation_id bigint, name text, value text);
    CREATE TABLE app_schedule (
        id bigserial PRIMARY KEY, organisation_id bigint, name text, parent_id bigint, group_id bigint,
        contact_id bigint, phone text, template_id bigint, text text, message_parts int, scheduled_time timestamptz,
        sent_time timestamptz, status text, format text, media_url text, subject text, error text,
        created_by_id bigint, updated_by_id bigint, created_at timestamptz, updated_at timestamptz);
"""
# Two organisations: org_1 in Adelaide, org_2 in Perth. User 3 is no member.
_PEOPLE = """
    INSERT INTO app_organisation (clerk_org_id, name, slug)
    VALUES ('org_1', 'One', 'one'), ('org_2', 'Two', 'two'), (NULL, 'No Clerk', NULL);
    INSERT INTO app_user (clerk_id, first_name, last_name, email)
    VALUES ('user_1', 'Ana', 'Silva', 'ana@x.test'), ('user_2', NULL, NULL, NULL), ('user_3', 'Gone', '', ''),
           (NULL, 'No Clerk', '', ''), (' ', 'Blank', '', '');
    INSERT INTO app_organisationmembership (organisation_id, user_id, role)
    VALUES (1, 1, 'org:admin'), (2, 2, NULL), (1, 4, 'member'), (99, 1, 'member');
    INSERT INTO app_config (organisation_id, name, value)
    VALUES (1, 'SMS_LIMIT', '1000000'), (1, 'mms_limit', 'many'), (1, 'sender', '0491570006'),
           (2, 'timezone', 'Australia/Perth'), (1, 'colour', 'blue'), (3, 'timezone', 'UTC'),
           (1, 'timezone', 'ACST');
"""
# Of each 100 contacts: 1 with the phone of the one before in another spelling, 1 with a landline, 1 with names that are
# null, 1 who opted out, 1 whose email is none.
_CONTACTS = """
    INSERT INTO app_contact (organisation_id, first_name, last_name, phone, email, company, user_id, is_active, opt_out,
                             created_by_id, updated_by_id, created_at, updated_at)
    SELECT CASE WHEN n % 5 = 4 THEN 2 ELSE 1 END, CASE n % 100 WHEN 3 THEN NULL ELSE 'First ' || n END,
           CASE n % 100 WHEN 3 THEN NULL ELSE 'Last' END,
           CASE n % 100 WHEN 6 THEN '+61 4' || substr(lpad((n - 1)::text, 8, '0'), 1, 2) || ' '
                                    || substr(lpad((n - 1)::text, 8, '0'), 3)
                        WHEN 7 THEN '08 8123 4567' WHEN 12 THEN '614' || lpad(n::text, 8, '0')
                        ELSE '04' || lpad(n::text, 8, '0') END,
           CASE n % 100 WHEN 10 THEN 'none' WHEN 11 THEN NULL ELSE 'a' || n || '@x.test' END, NULL,
           CASE n % 50 WHEN 1 THEN 1 WHEN 2 THEN 3 END, n % 40 <> 0, CASE n % 100 WHEN 6 THEN true WHEN 8 THEN true
           WHEN 9 THEN NULL ELSE false END, 1, 4, timestamptz '2026-01-05Z' + n % 300 * interval '1 day',
           CASE n % 100 WHEN 13 THEN NULL ELSE timestamptz '2026-11-01Z' END
    FROM generate_series(1, $1::int) AS n
"""
_GROUPS = """
    INSERT INTO app_contactgroup (organisation_id, name, description, is_active, created_at, updated_at)
    SELECT CASE WHEN n % 5 = 4 THEN 2 ELSE 1 END, CASE n WHEN 2 THEN NULL ELSE 'Group ' || n END, NULL, n <> 3,
           now(), now()
    FROM generate_series(1, 20) AS n
"""
# A member of a contact that does not exist, one of another organisation, and one that is there twice.
_MEMBERS = """
    INSERT INTO app_contactgroupmember (group_id, contact_id)
    SELECT CASE WHEN n % 5 = 4 THEN 4 ELSE 1 END, n FROM generate_series(1, $1::int / 2) AS n
    UNION ALL VALUES (1, 9999999), (4, 1), (1, 1), (77, 1)
"""
_TEMPLATES = """
    INSERT INTO app_template (organisation_id, name, text, is_active, created_by_id, created_at, updated_at)
    VALUES (1, 'Hello', 'Hello {{first_name}}', true, 1, now(), now()), (1, NULL, 'Bye', false, NULL, NULL, NULL),
           (1, 'Empty', ' ', true, NULL, now(), now()), (2, 'Two', 'Two', NULL, NULL, now(), now())
"""
# Single messages: 90 of 100 were sent, the others have each status and each fault.
_SINGLES = """
    INSERT INTO app_schedule (organisation_id, contact_id, phone, template_id, text, message_parts, scheduled_time,
                              sent_time, status, format, media_url, error, created_by_id, created_at, updated_at)
    SELECT CASE WHEN n % 5 = 4 THEN 2 ELSE 1 END, CASE n % 100 WHEN 21 THEN NULL WHEN 22 THEN 9999999 ELSE n END,
           CASE n % 100 WHEN 23 THEN '' WHEN 24 THEN '123' ELSE '04' || lpad(n::text, 8, '0') END,
           CASE n % 10 WHEN 1 THEN 1 END, 'Text ' || n, CASE n % 100 WHEN 25 THEN NULL ELSE 1 + n % 2 END, t.at,
           CASE WHEN n % 100 <> 44 THEN t.at + interval '1 second' END,
           CASE n % 100 WHEN 26 THEN 'failed' WHEN 27 THEN 'cancelled' WHEN 28 THEN 'DELETED' WHEN 31 THEN 'processing'
                        WHEN 32 THEN 'pending' WHEN 33 THEN 'pending' WHEN 35 THEN 'exploded' WHEN 36 THEN NULL
                        WHEN 37 THEN ' Sent' ELSE 'sent' END,
           CASE n % 100 WHEN 41 THEN 'mms' WHEN 42 THEN NULL WHEN 43 THEN 'fax' ELSE 'sms' END,
           CASE WHEN n % 100 IN (41, 42) THEN 'https://x.test/a.png' END, CASE n % 100 WHEN 26 THEN 'It broke' END, 1,
           least(t.at, timestamptz '2026-11-28Z'), least(t.at, timestamptz '2026-11-28Z')
    FROM generate_series(1, $1::int) AS n
    CROSS JOIN LATERAL (SELECT CASE n % 100
        WHEN 32 THEN date_trunc('day', now()) + interval '200 days' WHEN 33 THEN timestamptz '2020-01-01Z'
        WHEN 44 THEN timestamptz '9999-01-01Z'
        ELSE timestamptz '2026-10-31 13:00Z' + n % 400 * interval '1 hour' END AS at) t
"""
# Batches: 1 that was sent, 2 that waits for its time, 3 without its group, 4 that is being sent.
_BATCHES = """
    INSERT INTO app_schedule (id, organisation_id, name, group_id, text, scheduled_time, status, format, created_at,
                              updated_at)
    SELECT 1000000 + n, 1, CASE n WHEN 4 THEN NULL ELSE 'Batch ' || n END, g, 'Sale', at, s, 'sms', at, at
    FROM (VALUES (1, 1, timestamptz '2026-11-02Z', 'sent'),
                 (2, 1, date_trunc('day', now()) + interval '200 days', 'pending'),
                 (3, 77, '2026-11-03Z', 'sent'), (4, 1, '2026-11-04Z', 'processing')) AS v (n, g, at, s)
"""
_MESSAGES = """
    INSERT INTO app_schedule (id, organisation_id, parent_id, group_id, contact_id, phone, text, message_parts,
                              scheduled_time, sent_time, status, format, created_at, updated_at)
    SELECT 1000100 + b * 100000 + n, 1, 1000000 + b, 1, n * 5, '04' || lpad((n * 5)::text, 8, '0'),
           CASE n WHEN 3 THEN 'Sale for you' ELSE 'Sale' END, 1,
           p.scheduled_time, CASE WHEN b <> 2 THEN p.scheduled_time END,
           CASE WHEN b = 2 OR b = 4 AND n % 2 = 0 THEN 'pending' WHEN b = 4 AND n = 1 THEN 'processing' ELSE 'sent' END,
           'sms', p.scheduled_time, p.scheduled_time
    FROM app_schedule p, generate_series(1, 4) AS b, generate_series(1, $1::int) AS n
    WHERE p.id = 1000000 + b
    UNION ALL SELECT 2000000, 1, 8888888, 1, 1, '0400000001', 'Orphan', 1, '2026-11-05Z', '2026-11-05Z', 'sent', 'sms',
           '2026-11-05Z', '2026-11-05Z'
    UNION ALL SELECT 2000001, 1, 8888888, 1, 1, '0400000001', 'Orphan', 1, now() + interval '200 days', NULL,
           'pending', 'sms', '2026-11-05Z', '2026-11-05Z'
"""


async def create(admin_url: str, name: str) -> str:
    """Create an empty database in place of an earlier one, and return its URL."""
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.execute(f'CREATE DATABASE "{name}"')
    finally:
        await admin.close()
    return admin_url.rpartition("/")[0] + f"/{name}"


async def build(admin_url: str, name: str, *, contacts: int, singles: int, messages: int) -> str:
    """Create a database of v2 with these numbers of rows, and return its URL."""
    url = await create(admin_url, name)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_TABLES)
        await connection.execute(_PEOPLE)
        await connection.execute(_CONTACTS, contacts)
        await connection.execute(_GROUPS)
        await connection.execute(_MEMBERS, contacts)
        await connection.execute(_TEMPLATES)
        await connection.execute(_SINGLES, singles)
        await connection.execute(_BATCHES)
        await connection.execute(_MESSAGES, messages)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return url
