"""A database of v1, as Prisma made it, with the faults that such databases have."""

import asyncpg

from .v2_database import create

_TABLES = """
    CREATE TABLE "User" (
        id serial PRIMARY KEY, "firstName" text, "lastName" text, email text, "azureId" text);
    CREATE TABLE "Customer" (
        id serial PRIMARY KEY, "firstName" text, "lastName" text, phone text, email text, "userId" int,
        active boolean DEFAULT true, "optOut" boolean DEFAULT false, "createdById" int, "updatedById" int,
        "createdAt" timestamp(3) DEFAULT CURRENT_TIMESTAMP, "updatedAt" timestamp(3));
    CREATE TABLE "CustomerGroup" (
        id serial PRIMARY KEY, name text, description text, active boolean, "createdById" int, "updatedById" int,
        "createdAt" timestamp(3), "updatedAt" timestamp(3));
    CREATE TABLE "CustomerGroupMember" (id serial PRIMARY KEY, "groupId" int, "customerId" int);
    CREATE TABLE "Template" (
        id serial PRIMARY KEY, version int, name text, text text, active boolean, "createdById" int,
        "updatedById" int, "createdAt" timestamp(3), "updatedAt" timestamp(3), UNIQUE (id, version));
    CREATE TABLE "Config" (id serial PRIMARY KEY, name text, value text);
    CREATE TABLE "GroupSchedule" (
        id serial PRIMARY KEY, name text, "groupId" int, "templateId" int, text text, "scheduledTime" timestamp(3),
        status text, "createdById" int, "updatedById" int, "createdAt" timestamp(3), "updatedAt" timestamp(3));
    CREATE TABLE "Schedule" (
        id serial PRIMARY KEY, "groupScheduleId" int, "groupId" int, "customerId" int, phone text, "templateId" int,
        text text, "messageParts" int, "scheduledTime" timestamp(3), "sentTime" timestamp(3), status text, format text,
        "mediaUrl" text, error text, "createdById" int, "updatedById" int, "createdAt" timestamp(3),
        "updatedAt" timestamp(3));
"""
# User 3 is in no file of users. Customers also refer to user 99, who does not exist.
_FEW = """
    INSERT INTO "User" ("firstName", "lastName", email, "azureId")
    VALUES ('Ana', 'Silva', 'Ana@x.test', 'AZ-1'), ('Ben', NULL, 'ben@x.test', 'AZ-2'), (NULL, NULL, NULL, NULL);
    INSERT INTO "Config" (name, value) VALUES ('SMS_LIMIT', '5000'), ('mms_limit', 'many'), ('colour', 'blue');
    INSERT INTO "CustomerGroup" (name, active, "createdById", "createdAt")
    VALUES ('All', true, 1, '2026-01-01'), (NULL, false, 99, NULL), ('Empty', NULL, NULL, '2026-01-01');
    INSERT INTO "Template" (version, name, text, active, "createdById", "createdAt")
    VALUES (7, 'Hello', 'Hello {{first_name}}', true, 1, '2026-01-01'), (1, NULL, 'Bye', false, NULL, NULL),
           (2, 'Empty', ' ', true, NULL, '2026-01-01');
"""
# Of each 100 customers: 1 with the phone of the one before in another spelling, 1 with a landline, 1 without names, 1
# who opted out.
_CUSTOMERS = """
    INSERT INTO "Customer" ("firstName", "lastName", phone, email, "userId", active, "optOut", "createdById",
                            "updatedById", "createdAt", "updatedAt")
    SELECT CASE n % 100 WHEN 3 THEN NULL ELSE 'First ' || n END, CASE n % 100 WHEN 3 THEN NULL ELSE 'Last' END,
           CASE n % 100 WHEN 6 THEN '+61 4' || substr(lpad((n - 1)::text, 8, '0'), 1, 2) || ' '
                                    || substr(lpad((n - 1)::text, 8, '0'), 3)
                        WHEN 7 THEN '08 8123 4567' ELSE '04' || lpad(n::text, 8, '0') END,
           CASE n % 100 WHEN 10 THEN 'none' ELSE 'a' || n || '@x.test' END, CASE n % 50 WHEN 1 THEN 1 WHEN 2 THEN 2 END,
           CASE n % 40 WHEN 0 THEN false WHEN 1 THEN NULL ELSE true END,
           CASE n % 100 WHEN 6 THEN true WHEN 8 THEN true WHEN 9 THEN NULL ELSE false END,
           CASE n % 100 WHEN 11 THEN 3 WHEN 12 THEN 99 ELSE 1 END, 2,
           timestamp '2026-01-05 12:30:15.123' + n % 300 * interval '1 day', NULL
    FROM generate_series(1, $1::int) AS n
"""
# A member that does not exist, one of a group that does not, and one that is there twice.
_MEMBERS = """
    INSERT INTO "CustomerGroupMember" ("groupId", "customerId")
    SELECT 1, n FROM generate_series(1, $1::int / 2) AS n UNION ALL VALUES (1, 9999999), (77, 1), (1, 1)
"""
# Group schedules: 1 was sent, 2 waits for its time, 3 has no group, 4 was deleted, 5 has a word of nobody.
_BATCHES = """
    INSERT INTO "GroupSchedule" (name, "groupId", "templateId", text, "scheduledTime", status, "createdById",
                                 "createdAt", "updatedAt")
    VALUES ('Sale', 1, 1, 'Sale', '2026-11-02 01:00', 'SENT', 1, '2026-11-01', '2026-11-02'),
           (NULL, 1, NULL, 'Later', date_trunc('day', now() AT TIME ZONE 'UTC') + interval '200 days', 'PENDING', 1,
            '2026-11-01', '2026-11-01'),
           ('Lost', 77, NULL, 'Lost', '2026-11-03 01:00', 'SENT', NULL, '2026-11-01', '2026-11-03'),
           ('Deleted', 1, NULL, 'Never', '2026-12-31 01:00', 'DELETED', 2, '2026-11-01', '2026-11-01'),
           ('Broken', 1, NULL, 'Broken', '2026-11-04 01:00', 'processing', 2, '2026-11-01', '2026-11-01')
"""
_MESSAGES = """
    INSERT INTO "Schedule" (id, "groupScheduleId", "groupId", "customerId", phone, text, "messageParts",
                            "scheduledTime", "sentTime", status, format, "createdAt", "updatedAt")
    SELECT 1000000 + b.id * 100000 + n, b.id, 1, n, CASE WHEN n % 2 = 0 THEN '04' || lpad(n::text, 8, '0') END,
           CASE n WHEN 3 THEN 'For you' END, 1, b."scheduledTime",
           CASE WHEN b.id IN (1, 3) THEN b."scheduledTime" END,
           CASE b.id WHEN 1 THEN 'SENT' WHEN 3 THEN 'SENT' ELSE 'PENDING' END, 'sms', timestamp '2026-11-01',
           timestamp '2026-11-02'
    FROM "GroupSchedule" b, generate_series(1, $1::int) AS n WHERE b.id < 5 AND n NOT IN (6, 7)
    UNION ALL SELECT 3000000, 8888888, 1, 1, NULL, 'Orphan', 1, '2026-11-05', '2026-11-05', 'SENT', 'sms',
           '2026-11-05', '2026-11-05'
    UNION ALL SELECT 3000001, 8888888, 1, 1, NULL, 'Orphan', NULL, now() + interval '200 days', NULL, 'PENDING', 'sms',
           '2026-11-05', '2026-11-05'
"""
# Single messages. Their ids are those of group schedules, too. Of each 100: one with each status and each fault, and
# four at local times that Adelaide does not have or has twice. v1 stored UTC, so they are four different times.
_SINGLES = """
    INSERT INTO "Schedule" ("customerId", phone, "templateId", text, "messageParts", "scheduledTime", "sentTime",
                            status, format, "mediaUrl", error, "createdById", "createdAt", "updatedAt")
    SELECT CASE n % 100 WHEN 21 THEN NULL WHEN 22 THEN 9999999 WHEN 29 THEN NULL WHEN 6 THEN NULL WHEN 7 THEN NULL
                        ELSE n END,
           CASE n % 100 WHEN 23 THEN NULL WHEN 24 THEN '123' WHEN 29 THEN NULL
                        ELSE '04' || lpad(n::text, 8, '0') END,
           CASE n % 10 WHEN 1 THEN 1 END, CASE n % 100 WHEN 30 THEN repeat('long ', 80) ELSE 'Text ' || n END,
           CASE n % 100 WHEN 25 THEN NULL WHEN 30 THEN NULL ELSE 1 + n % 2 END, t.at,
           CASE WHEN n % 100 NOT IN (32, 33, 44) THEN t.at + interval '1 second' END,
           CASE n % 100 WHEN 26 THEN 'FAILED' WHEN 27 THEN 'DELETED' WHEN 31 THEN 'PROCESSING' WHEN 32 THEN 'PENDING'
                        WHEN 33 THEN 'PENDING' WHEN 35 THEN 'EXPLODED' WHEN 36 THEN NULL WHEN 37 THEN ' sent'
                        ELSE 'SENT' END,
           CASE n % 100 WHEN 41 THEN 'MMS' WHEN 42 THEN NULL WHEN 43 THEN 'fax' ELSE 'sms' END,
           CASE WHEN n % 100 IN (41, 42) THEN 'https://x.test/a.png' END, CASE n % 100 WHEN 26 THEN 'It broke' END, 1,
           '2026-11-01', '2026-11-02'
    FROM generate_series(1, $1::int) AS n
    CROSS JOIN LATERAL (SELECT CASE n % 100
        WHEN 32 THEN date_trunc('day', now() AT TIME ZONE 'UTC') + interval '200 days'
        WHEN 33 THEN timestamp '2020-01-01' WHEN 44 THEN timestamp 'infinity'
        WHEN 51 THEN timestamp '2026-10-03 16:29:59.999' WHEN 52 THEN timestamp '2026-10-03 16:30'
        WHEN 53 THEN timestamp '2026-04-04 15:45' WHEN 54 THEN timestamp '2026-04-04 16:45'
        ELSE timestamp '2026-10-31 13:00' + n % 400 * interval '1 hour' END AS at) t
"""


async def build_v1(admin_url: str, name: str, *, customers: int, singles: int, messages: int) -> str:
    """Create a database of v1 with these numbers of rows, and return its URL."""
    url = await create(admin_url, name)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_TABLES)
        await connection.execute(_FEW)
        await connection.execute(_CUSTOMERS, customers)
        await connection.execute(_MEMBERS, customers)
        await connection.execute(_BATCHES)
        await connection.execute(_SINGLES, singles)
        await connection.execute(_MESSAGES, messages)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return url
