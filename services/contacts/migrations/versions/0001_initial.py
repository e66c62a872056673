"""Create the schema: organisations, users and memberships; contacts with their opt-outs; groups with their members."""

from collections.abc import Iterable

from alembic import op

from common.counters import counter
from common.migrations import (
    bus_tables,
    erased_opt_outs_table,
    idempotency_table,
    moved_rows_table,
    protect,
    statements,
)
from contacts.models import CONTACT_OPT_OUT_SOURCES, NUMBER_OPT_OUT_SOURCES, ImportStatus, Role
from contacts.operator_actions.rules import OPERATOR_LENGTH, REASON_LENGTH, ActionOutcome, Step

revision = "0001"
down_revision = None


def quoted(values: Iterable[str]) -> str:
    """Return the values as a list of SQL literals."""
    return ", ".join(f"'{value}'" for value in values)


# Clerk's events may arrive late, twice and out of order, so each row has Clerk's times: created (or first seen in a
# session token), updated (null while the row is only known from a token or from another event), and deleted.
CLERK_TIMES = """
    source_created_at timestamptz,
    source_updated_at timestamptz,
    deleted_at timestamptz,
    is_active boolean GENERATED ALWAYS AS (deleted_at IS NULL) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
"""

AUDIT = """
    created_by bigint,
    updated_by bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
"""

# A tenant's row belongs to the organisation of the session that adds it.
ORGANISATION = "organisation_id text NOT NULL DEFAULT current_setting('app.organisation_id')"

IDENTITY = f"""
    CREATE TABLE organisations (
        organisation_id text PRIMARY KEY,
        name text NOT NULL DEFAULT '',
        slug text NOT NULL DEFAULT '',
        version bigint NOT NULL DEFAULT 1,
        {CLERK_TIMES}
    );
    CREATE TABLE users (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        clerk_id text NOT NULL CONSTRAINT users_clerk_id UNIQUE,
        first_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        last_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        email text NOT NULL DEFAULT '',
        {CLERK_TIMES}
    );
    CREATE TABLE memberships (
        organisation_id text NOT NULL REFERENCES organisations,
        user_id bigint NOT NULL REFERENCES users,
        role text NOT NULL DEFAULT '{Role.MEMBER}',
        {CLERK_TIMES},
        PRIMARY KEY (organisation_id, user_id)
    );
    CREATE INDEX memberships_user ON memberships (user_id)
"""

# A user has no organisation_id, because one user can be a member of several organisations. An organisation sees the
# users that are or were its members, and cannot change them.
USERS_POLICY = """
    ALTER TABLE users ENABLE ROW LEVEL SECURITY;
    ALTER TABLE users FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON users FOR SELECT TO contacts_tenant USING (EXISTS (
        SELECT FROM memberships m
        WHERE m.user_id = users.id AND m.organisation_id = current_setting('app.organisation_id', true)));
    CREATE POLICY all_tenants ON users TO contacts_all USING (true) WITH CHECK (true);
    GRANT SELECT ON users TO contacts_tenant;
    GRANT SELECT, INSERT, UPDATE, DELETE ON users TO contacts_all
"""

# There is one row for each organisation and phone, active or not. Adding the phone of a deleted contact restores its
# row together with its opt-out.
# There is no foreign key to organisations: each import would lock that one row. The row exists before the first
# contact, because the gateway resolves the caller's identity first.
# The check of the phone is its pattern +614[0-9]{8}. A regular expression would take 4 % of the time of an import.
# A contact whose person was erased has no phone, and cannot be restored.
# Keys begin with the most selective column. While an organisation is being imported its statistics are missing, and
# with a key that begins with the organisation the planner would read all of its rows for each phone.
CONTACTS = f"""
    CREATE TABLE contacts (
        id bigint GENERATED ALWAYS AS IDENTITY,
        {ORGANISATION},
        first_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        last_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        phone text NOT NULL
            CHECK (phone LIKE '+614%' AND length(phone) = 12 AND rtrim(phone, '0123456789') = '+'
                   OR phone = 'erased-' || id AND NOT is_active),
        email text NOT NULL DEFAULT '',
        company text NOT NULL DEFAULT '',
        user_id bigint,
        is_active boolean NOT NULL DEFAULT true,
        opt_out boolean NOT NULL DEFAULT false,
        opted_out_at timestamptz,
        opt_out_source text CHECK (opt_out_source IN ({quoted(CONTACT_OPT_OUT_SOURCES)})),
        opt_out_message_id bigint,
        opt_in_confirmed_at timestamptz,
        version bigint NOT NULL DEFAULT 1,
        {AUDIT},
        PRIMARY KEY (id, organisation_id),
        CONSTRAINT contacts_phone UNIQUE (phone, organisation_id),
        FOREIGN KEY (organisation_id, user_id) REFERENCES memberships (organisation_id, user_id),
        CHECK (opt_out = (opted_out_at IS NOT NULL) AND opt_out = (opt_out_source IS NOT NULL)),
        CHECK (opt_out OR opt_out_message_id IS NULL)
    );
    CREATE INDEX contacts_listed ON contacts (organisation_id, created_at, id) WHERE is_active;
    CREATE INDEX contacts_user ON contacts (organisation_id, user_id) WHERE user_id IS NOT NULL
"""

# The last state of each number that delivery reported. `received_at` is the time of the row's last change: for some
# minutes a loop applies the row to contacts that were locked or uncommitted at that time.
OPT_OUTS = f"""
    CREATE TABLE opt_outs (
        organisation_id text NOT NULL,
        phone text NOT NULL,
        opted_out boolean NOT NULL,
        changed_at timestamptz NOT NULL,
        source text NOT NULL CHECK (source IN ({quoted(NUMBER_OPT_OUT_SOURCES)})),
        message_id bigint,
        version bigint NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (phone, organisation_id)
    );
    CREATE INDEX opt_outs_received_at ON opt_outs (received_at)
"""

GROUPS = f"""
    CREATE TABLE groups (
        id bigint GENERATED ALWAYS AS IDENTITY,
        {ORGANISATION},
        name text COLLATE pg_c_utf8 NOT NULL,
        description text NOT NULL DEFAULT '',
        is_active boolean NOT NULL DEFAULT true,
        {AUDIT},
        PRIMARY KEY (organisation_id, id)
    );
    CREATE INDEX groups_listed ON groups (organisation_id, lower(name), id) WHERE is_active;
    CREATE TABLE group_members (
        {ORGANISATION},
        group_id bigint NOT NULL,
        contact_id bigint NOT NULL,
        joined_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (group_id, contact_id, organisation_id),
        FOREIGN KEY (organisation_id, group_id) REFERENCES groups (organisation_id, id),
        FOREIGN KEY (contact_id, organisation_id) REFERENCES contacts (id, organisation_id)
    );
    CREATE INDEX group_members_contact ON group_members (contact_id, organisation_id)
"""

# A queued import has its file, which its end deletes. A worker has claimed a running one until `lease_until`, and it is
# that worker's as long as `tries` is unchanged. `more_errors` are the errors of the report that lists do not show. They
# are `json`, because a cell may have a NUL, which `jsonb` cannot have. Files are stored uncompressed and deleted soon,
# so the space is freed when some of them were deleted, not when a part of the table was.
IMPORTS = f"""
    CREATE TABLE imports (
        id bigint GENERATED ALWAYS AS IDENTITY,
        {ORGANISATION},
        created_by bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        request_id text NOT NULL,
        file_name text NOT NULL,
        dry_run boolean NOT NULL,
        group_id bigint,
        update_existing boolean NOT NULL,
        status text NOT NULL CHECK (status IN ({quoted(ImportStatus)})),
        rows_read bigint NOT NULL DEFAULT 0,
        rows_total bigint,
        report json,
        more_errors json,
        error text,
        file bytea CHECK (length(file) <= 10 * 1024 * 1024),
        tries int NOT NULL DEFAULT 0,
        claimed_at timestamptz,
        lease_until timestamptz,
        finished_at timestamptz,
        PRIMARY KEY (organisation_id, id),
        CHECK ((status = '{ImportStatus.DONE}') = (report IS NOT NULL)),
        CHECK ((status = '{ImportStatus.FAILED}') = (error IS NOT NULL)),
        CHECK ((status IN ('{ImportStatus.QUEUED}', '{ImportStatus.RUNNING}')) = (file IS NOT NULL)),
        CHECK ((status = '{ImportStatus.RUNNING}') = (lease_until IS NOT NULL)),
        CHECK ((file IS NULL) = (finished_at IS NOT NULL))
    ) WITH (toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000);
    ALTER TABLE imports ALTER COLUMN file SET STORAGE EXTERNAL;
    CREATE INDEX imports_open ON imports (status, id) WHERE status IN ('queued', 'running');
    CREATE INDEX imports_claimed_at ON imports (organisation_id, claimed_at);
    CREATE INDEX imports_finished_at ON imports (finished_at)
"""

# The record of erasures. It names no person. Without an organisation an erasure was for all of them.
ERASURES = """
    CREATE TABLE erasures (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text,
        operator text NOT NULL,
        reason text NOT NULL,
        counts jsonb NOT NULL DEFAULT '{}',
        started_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
    );
    CREATE INDEX erasures_started_at ON erasures (started_at)
"""

# Each action of an operator has two rows, before it begins and after it ended. No role may change or delete them: there
# are no grants, and the trigger also refuses the owner. No organisation sees them.
OPERATOR_ACTIONS = f"""
    CREATE TABLE operator_actions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        action_id uuid NOT NULL,
        step text NOT NULL CHECK (step IN ({quoted(Step)})),
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        action text NOT NULL,
        operator text NOT NULL CHECK (length(operator) BETWEEN {OPERATOR_LENGTH[0]} AND {OPERATOR_LENGTH[1]}),
        reason text NOT NULL CHECK (length(reason) BETWEEN {REASON_LENGTH[0]} AND {REASON_LENGTH[1]}),
        arguments jsonb NOT NULL,
        organisation_id text,
        outcome text CHECK (outcome IN ({quoted(ActionOutcome)})),
        exit_code int,
        UNIQUE (action_id, step),
        CHECK ((step = '{Step.END}') = (outcome IS NOT NULL)),
        CHECK ((outcome IS NULL) = (exit_code IS NULL))
    );
    CREATE INDEX operator_actions_organisation_id ON operator_actions (organisation_id, id) WHERE step = '{Step.BEGIN}';
    CREATE INDEX operator_actions_operator ON operator_actions (operator, id) WHERE step = '{Step.BEGIN}';
    ALTER TABLE operator_actions ENABLE ROW LEVEL SECURITY;
    ALTER TABLE operator_actions FORCE ROW LEVEL SECURITY;
    CREATE POLICY all_tenants_read ON operator_actions FOR SELECT TO contacts_all USING (true);
    CREATE POLICY all_tenants_add ON operator_actions FOR INSERT TO contacts_all WITH CHECK (true);
    GRANT SELECT, INSERT ON operator_actions TO contacts_all
"""
REFUSE_FUNCTION = """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION '% of % is refused: its rows are kept as they are', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END $$
"""
REFUSE_TRIGGER = """
    CREATE TRIGGER operator_actions_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_actions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""

# Both the index and a search fold their texts with this function, so there is one rule. Lower case of upper case also
# makes the two forms of the Greek sigma equal. PostgreSQL 17 has no casefold(). The two replacements are those of full
# case folding that names have: ß, and the letter i with a separate dot, which other software makes of İ. PostgreSQL
# inlines the function, which it would not do if it was STRICT. Plain ASCII, which most names are, skips the costly steps.
FOLD_FUNCTION = r"""
    CREATE FUNCTION fold(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN octet_length(given) = length(given) THEN lower(given COLLATE pg_c_utf8)
                ELSE replace(replace(lower(upper(normalize(given) COLLATE pg_c_utf8)), 'ß', 'ss'), U&'i\0307', 'i') END
"""
# The index begins with the organisation, so a search of a small organisation does not read the matches of a large one.
# LIKE is not leakproof, so under row-level security it cannot use an index, and each search would read all contacts
# of the organisation. This function runs as the owner and adds the condition on the session's organisation itself. Its
# first argument only makes a statement set the organisation before it calls the function. EXECUTE plans the statement
# with the patterns known, because the index does not help for a pattern of one letter.
SEARCHED = "(fold(first_name) || ' ' || fold(last_name) || ' 0' || substr(phone, 4))"
# A new contact is first added to the list of entries that are pending for the index, and every search reads that list:
# 0.7 ms for 1,000 contacts. The worker moves the entries into the index (`clean_search_index`), so that a writer does so
# only when the list is longer than the limit. The more contacts it moves at once, the less each of them costs.
SEARCH_INDEX = f"""
    CREATE INDEX contacts_searched ON contacts USING gin (organisation_id, {SEARCHED} public.gin_trgm_ops)
    WITH (gin_pending_list_limit = 8192) WHERE is_active
"""
SEARCH_POLICY = "CREATE POLICY search ON contacts FOR SELECT TO contacts_owner USING (true)"
SEARCH_FUNCTION = f"""
    CREATE FUNCTION search_contacts(organisation text, patterns text[]) RETURNS TABLE (id bigint, created_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = contacts, pg_temp
    AS $$ BEGIN
        RETURN QUERY EXECUTE $query$
            SELECT id, created_at FROM contacts
            WHERE organisation_id = $1 AND is_active AND {SEARCHED} LIKE ANY ($2)
        $query$ USING current_setting('app.organisation_id'), ARRAY(SELECT fold(pattern) FROM unnest(patterns) pattern);
    END $$
"""
# Only the owner of an index may move its pending entries. The function returns the number of pages that it moved.
# ANALYZE once the table has more than four times as many rows as the planner believes: after a first import, a search
# would otherwise read all contacts of the organisation until autovacuum comes, which takes a minute or more. Only
# committed rows count: ANALYZE during a first import would find pages without rows. With such statistics all indexes
# seem equally cheap, and a look-up by id reads all contacts of the organisation.
CLEAN_FUNCTION = """
    CREATE FUNCTION clean_search_index() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = contacts, pg_temp AS $$
    DECLARE
        moved bigint := gin_clean_pending_list('contacts_searched');
        known real := (SELECT reltuples FROM pg_class WHERE oid = 'contacts'::regclass); -- -1: never analysed
    BEGIN
        IF pg_stat_get_live_tuples('contacts'::regclass) > 4 * greatest(known, 0) THEN
            ANALYZE contacts;
        END IF;
        RETURN moved;
    END $$
"""
SEARCH_GRANTS = """
    REVOKE ALL ON FUNCTION search_contacts, clean_search_index FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION search_contacts TO contacts_tenant;
    GRANT EXECUTE ON FUNCTION clean_search_index TO contacts_all
"""
TENANT_TABLES = (
    "organisations",
    "memberships",
    "contacts",
    "opt_outs",
    "groups",
    "group_members",
    "imports",
    "erasures",
)


def upgrade() -> None:
    tables = statements(
        *(IDENTITY, USERS_POLICY, CONTACTS, OPT_OUTS, GROUPS, IMPORTS, ERASURES, OPERATOR_ACTIONS),
        *(protect(table, "contacts") for table in TENANT_TABLES),
        "REVOKE INSERT, UPDATE, DELETE ON erasures FROM contacts_tenant",
        erased_opt_outs_table("contacts"),
        *(bus_tables("contacts"), idempotency_table("contacts"), moved_rows_table("contacts")),
        "GRANT USAGE ON SEQUENCE groups_id_seq TO contacts_all",
    )
    content = "concat_ws(chr(31), r.id, r.first_name, r.last_name, r.phone)"  # what a search reads
    counts = counter("contacts", "contact_counts", "contacts", keys={}, counted="r.is_active", content=content)
    search = (FOLD_FUNCTION, SEARCH_INDEX, SEARCH_POLICY, SEARCH_FUNCTION, CLEAN_FUNCTION, *statements(SEARCH_GRANTS))
    for statement in (*tables, *counts, *search, REFUSE_FUNCTION, REFUSE_TRIGGER):
        op.execute(statement)
