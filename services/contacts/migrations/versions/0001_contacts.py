"""Organisations, users and memberships as Clerk tells of them; contacts, groups and who is in them."""

from alembic import op

from common.migrations import bus_tables, protect

revision = "0001"
down_revision = None

# What Clerk says is kept with Clerk's times, so that events may come late, twice and out of order: created (or first
# seen in a token), updated (null: only seen in a token or inside another event so far), deleted.
SOURCE = """
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

# A row of a tenant belongs to the organisation of the session that adds it.
MINE = "organisation_id text NOT NULL DEFAULT current_setting('app.organisation_id')"

IDENTITY = f"""
    CREATE TABLE organisations (
        organisation_id text PRIMARY KEY,
        name text NOT NULL DEFAULT '',
        slug text NOT NULL DEFAULT '',
        version bigint NOT NULL DEFAULT 1,
        {SOURCE}
    );
    CREATE TABLE users (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        clerk_id text NOT NULL CONSTRAINT users_clerk_id UNIQUE,
        first_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        last_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        email text NOT NULL DEFAULT '',
        {SOURCE}
    );
    CREATE TABLE memberships (
        organisation_id text NOT NULL REFERENCES organisations,
        user_id bigint NOT NULL REFERENCES users,
        role text NOT NULL DEFAULT 'member',
        {SOURCE},
        PRIMARY KEY (organisation_id, user_id)
    );
    CREATE INDEX memberships_user ON memberships (user_id)
"""

# A person is nobody's row: an organisation sees those who are, or were, its members, and changes none.
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

# One row per organisation and phone, active or not: adding a deleted contact's phone brings its row back, and with
# it the opt-out. No foreign key to organisations: it would lock the one row in every import, and identity has made
# it before anybody can add a contact.
# Keys begin with what is most particular: one that began with the organisation would tempt the planner, which knows
# nothing yet of an organisation that is just being imported, into reading all its rows for each that it looks up.
CONTACTS = f"""
    CREATE TABLE contacts (
        id bigint GENERATED ALWAYS AS IDENTITY,
        {MINE},
        first_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        last_name text COLLATE pg_c_utf8 NOT NULL DEFAULT '',
        phone text NOT NULL CHECK (phone ~ '^\\+614[0-9]{{8}}$'),
        email text NOT NULL DEFAULT '',
        company text NOT NULL DEFAULT '',
        user_id bigint,
        is_active boolean NOT NULL DEFAULT true,
        opt_out boolean NOT NULL DEFAULT false,
        opted_out_at timestamptz,
        opt_out_source text CHECK (opt_out_source IN ('manual', 'stop', 'provider')),
        version bigint NOT NULL DEFAULT 1,
        {AUDIT},
        PRIMARY KEY (id, organisation_id),
        CONSTRAINT contacts_phone UNIQUE (phone, organisation_id),
        FOREIGN KEY (organisation_id, user_id) REFERENCES memberships (organisation_id, user_id),
        CHECK (opt_out = (opted_out_at IS NOT NULL) AND opt_out = (opt_out_source IS NOT NULL))
    );
    CREATE INDEX contacts_listed ON contacts (organisation_id, created_at DESC, id DESC) WHERE is_active;
    CREATE INDEX contacts_counted ON contacts (organisation_id) WHERE is_active;
    CREATE INDEX contacts_by_name ON contacts (organisation_id, last_name, first_name, id) WHERE is_active;
    CREATE INDEX contacts_user ON contacts (organisation_id, user_id) WHERE user_id IS NOT NULL
"""

GROUPS = f"""
    CREATE TABLE groups (
        id bigint GENERATED ALWAYS AS IDENTITY,
        {MINE},
        name text COLLATE pg_c_utf8 NOT NULL,
        description text NOT NULL DEFAULT '',
        is_active boolean NOT NULL DEFAULT true,
        {AUDIT},
        PRIMARY KEY (organisation_id, id)
    );
    CREATE INDEX groups_listed ON groups (organisation_id, lower(name), id) WHERE is_active;
    CREATE TABLE group_members (
        {MINE},
        group_id bigint NOT NULL,
        contact_id bigint NOT NULL,
        joined_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (group_id, contact_id, organisation_id),
        FOREIGN KEY (organisation_id, group_id) REFERENCES groups (organisation_id, id),
        FOREIGN KEY (contact_id, organisation_id) REFERENCES contacts (id, organisation_id)
    );
    CREATE INDEX group_members_contact ON group_members (contact_id, organisation_id)
"""

# Under row-level security LIKE may not choose the rows that an index gives (it is not leakproof), so each search
# would read the whole organisation. This function may, and names the organisation itself. EXECUTE plans it with the
# patterns known: a pattern of one letter is no case for the index.
SEARCHED = "lower((first_name || ' ' || last_name || ' 0' || substr(phone, 4)) COLLATE pg_c_utf8)"
# Every search also reads what waits to go into the index: at most 1 MB (the default of 4 costs 60 ms after an import).
SEARCH_INDEX = f"""
    CREATE INDEX contacts_searched ON contacts USING gin ({SEARCHED} public.gin_trgm_ops)
    WITH (gin_pending_list_limit = 1024) WHERE is_active
"""
SEARCH_POLICY = "CREATE POLICY search ON contacts FOR SELECT TO contacts_owner USING (true)"
SEARCH_FUNCTION = f"""
    CREATE FUNCTION search_contacts(patterns text[]) RETURNS TABLE (id bigint, created_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = contacts, pg_temp
    AS $$ BEGIN
        RETURN QUERY EXECUTE $query$
            SELECT id, created_at FROM contacts
            WHERE organisation_id = $1 AND is_active AND {SEARCHED} LIKE ANY ($2)
        $query$ USING current_setting('app.organisation_id'), patterns;
    END $$
"""


def upgrade() -> None:
    for script in (IDENTITY, USERS_POLICY, CONTACTS, GROUPS, bus_tables("contacts")):
        _run(script)
    for table in ("organisations", "memberships", "contacts", "groups", "group_members"):
        _run(protect(table, "contacts"))
    for statement in (SEARCH_INDEX, SEARCH_POLICY, SEARCH_FUNCTION):
        op.execute(statement)
    _run(
        "REVOKE ALL ON FUNCTION search_contacts FROM PUBLIC;"
        "GRANT EXECUTE ON FUNCTION search_contacts TO contacts_tenant"
    )


def _run(script: str) -> None:
    """The statements of a script, one by one: the driver takes no more at a time."""
    for statement in filter(str.strip, script.split(";")):
        op.execute(statement)
