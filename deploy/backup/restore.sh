#!/usr/bin/env bash
# Restore a backup of backup.sh: `restore.sh FOLDER`, or `restore.sh latest`. The databases of the backup must be missing or
# empty on the server. With `--replace` they are dropped first. The server and its password are named as for backup.sh.
set -euo pipefail
: "${PGUSER:?set PGUSER to the superuser}"
if [ -n "${PGPASSWORD_FILE:-}" ]; then PGPASSWORD=$(<"$PGPASSWORD_FILE") && export PGPASSWORD; fi
replace=
if [ "${1:-}" = --replace ]; then replace=yes && shift; fi
folder=${1:-}
if [ "$folder" = latest ]; then
    folder=$(find "${BACKUP_FOLDER:?set BACKUP_FOLDER to the folder of the backups}" -mindepth 2 -maxdepth 2 -name SHA256SUMS \
        -not -path '*/.*' -printf '%h\n' | sort | tail -n 1)
fi
if [ $# -ne 1 ] || [ ! -f "$folder/SHA256SUMS" ]; then
    echo "usage: restore.sh [--replace] FOLDER|latest, where FOLDER has a complete backup" >&2
    exit 2
fi

(cd "$folder" && sha256sum --check --quiet --strict SHA256SUMS) || {
    echo "$folder: the files are not those that were written; nothing was restored" >&2
    exit 1
}
query() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$1" --command "$2"; }
databases=$(cd "$folder" && ls -- *.dump)
for file in $databases; do
    database=${file%.dump}
    [ -n "$(query postgres "SELECT 1 FROM pg_database WHERE datname = '$database'")" ] || continue
    # A database with open connections cannot be dropped, and a running service is never cut off.
    connections=$(query postgres "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database'
        AND backend_type = 'client backend'")
    if [ "$connections" -gt 0 ]; then
        noun=connections
        [ "$connections" != 1 ] || noun=connection
        echo "$database: this database is in use by $connections $noun; nothing was restored" >&2
        exit 1
    fi
    tables=$(query "$database" "SELECT count(*) FROM pg_stat_user_tables")
    if [ "$tables" -gt 0 ] && [ -z "$replace" ]; then
        echo "$database: this database has $tables tables; nothing was restored (--replace drops it)" >&2
        exit 1
    fi
done

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres --file "$folder/roles.sql" >/dev/null
for file in $databases; do
    pg_restore --exit-on-error --create --clean --if-exists --dbname postgres "$folder/$file"
    database=${file%.dump}
    query "$database" "ANALYZE" # pg_restore restores no statistics, and plans need them
    echo "$database: restored $(query "$database" "SELECT count(*) FROM pg_stat_user_tables") tables from $folder"
done
