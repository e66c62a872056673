#!/usr/bin/env bash
# Write a backup of the databases to a new folder of BACKUP_FOLDER: one file of pg_dump's custom format for each database,
# the roles with their passwords and settings, and the checksums. Each file has the state of one moment.
#
# The server is named by PGHOST, PGPORT and PGUSER, which must be a superuser: row-level security would hide rows from
# another role. PGPASSWORD, or the file that PGPASSWORD_FILE names, has the password.
set -euo pipefail
: "${BACKUP_FOLDER:?set BACKUP_FOLDER to the folder for the backups}" "${PGUSER:?set PGUSER to the superuser}"
keep=${BACKUP_KEEP:-14} # the newest backups that stay; 0: all
if [ -n "${PGPASSWORD_FILE:-}" ]; then PGPASSWORD=$(<"$PGPASSWORD_FILE") && export PGPASSWORD; fi
[[ $keep =~ ^[0-9]+$ ]] || { echo "BACKUP_KEEP must be a number, not '$keep'" >&2 && exit 2; }
[ -w "$BACKUP_FOLDER" ] || { echo "$BACKUP_FOLDER: the user $(id -u) cannot write to this folder" >&2 && exit 2; }
umask 077

name=$(date -u +%Y-%m-%dT%H%M%S.%3NZ)
partial="$BACKUP_FOLDER/.partial-$name"
trap 'rm -rf "$partial"' EXIT
mkdir "$partial"

# The restoring server has its own administrator, and may have some of the roles.
pg_dumpall --roles-only | sed -E \
    -e "/^(CREATE|ALTER) ROLE \"?$PGUSER\"?[ ;]/d" \
    -e 's/^(CREATE ROLE .*);$/DO $role$ BEGIN \1; EXCEPTION WHEN duplicate_object THEN NULL; END $role$;/' \
    >"$partial/roles.sql"
for database in ${BACKUP_DATABASES:-cooee}; do
    pg_dump --format=custom --create --file="$partial/$database.dump" "$database"
    pg_restore --list "$partial/$database.dump" >/dev/null # it can be read
done
(cd "$partial" && sha256sum -- * >SHA256SUMS)
sync -f "$partial"
mv "$partial" "$BACKUP_FOLDER/$name" # what has no dot at the beginning is complete

if [ "$keep" -gt 0 ]; then
    find "$BACKUP_FOLDER" -mindepth 2 -maxdepth 2 -name SHA256SUMS -not -path '*/.*' -printf '%h\n' | sort -r |
        tail -n "+$((keep + 1))" | while read -r old; do rm -rf "$old"; done
fi
echo "$BACKUP_FOLDER/$name"
