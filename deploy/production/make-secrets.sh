#!/usr/bin/env bash
# Create the files of the secrets in a folder (secrets/): random ones for what is ours, empty ones for what comes from
# others. A file that exists stays as it is, so the script can be started again after an upgrade.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$root/secrets}
user=${SECRETS_USER:-10001} # the user of the services in their images
[ "$(id -u)" = 0 ] || [ "$(id -u)" = "$user" ] || {
    echo "run as root: the files must belong to the user $user, which runs the services; nothing was created" >&2
    exit 1
}
umask 077
mkdir -p "$folder"

write() { # write NAME VALUE
    [ -e "$folder/$1" ] || printf '%s' "$2" >"$folder/$1"
}
random() { openssl rand -hex 24; }

write postgres_password "$(random)"
write database_url "postgresql://postgres:$(cat "$folder/postgres_password")@postgres:5432/cooee"
for service in contacts scheduling delivery; do
    write "${service}_database_url" "postgresql://$service:$(random)@postgres:5432/cooee"
done
write internal_token_secret "$(random)"
write media_link_secret "$(random)"
write operators_secret "$(random)"
write mobile_message_webhook_secret "$(random)"
for name in $(sed -n '/^secrets:/,$ s/^  \([a-z_0-9]*\): .*/\1/p' "$root/docker-compose.production.yml"); do
    write "$name" ""
done
chown -R "$user" "$folder"
echo "empty, fill in what you use:"
find "$folder" -maxdepth 1 -type f -empty -printf '  %f\n' | sort
