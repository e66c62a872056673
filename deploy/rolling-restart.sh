#!/usr/bin/env bash
# Replace the containers of services of docker-compose.production.yml, one service after the other, by new ones with the
# present settings and VERSION: `deploy/rolling-restart.sh contacts scheduling delivery gateway`.
#
# An API: the new containers start beside the old ones. When they are healthy and every client knows their addresses,
# each old one gets the signal to stop. It refuses connections then, and gives up each open one after its next answer
# (DRAIN_S), so no request fails. If a new container does not become healthy, it is removed and the old ones go on.
# A worker: it stops after the batch in hand, then the new one starts. Until then events and messages wait. If the new
# one does not become healthy, the script stops: the old one is removed already, so no worker of this service works.
set -euo pipefail
cd "$(dirname "$0")/.."
export COMPOSE_FILE=${COMPOSE_FILE:-docker-compose.production.yml}
export COMPOSE_ENV_FILES=${COMPOSE_ENV_FILES:-production.env}
wait_s=${WAIT_S:-180} # the longest start of a container
addresses_s=11        # the services cache the addresses of a name for 10 s
apis="gateway contacts scheduling delivery"
workers="contacts-worker scheduling-worker delivery-worker"
for service in "$@"; do
    [[ " $apis $workers " == *" $service "* ]] || { echo "$service: not one of $apis $workers" >&2 && exit 2; }
done
[ $# -gt 0 ] || { echo "usage: rolling-restart.sh SERVICE…, each of $apis $workers" >&2 && exit 2; }

start() { # start SERVICE CONTAINERS [OPTION…]: without the services that it depends on
    docker compose up --detach --no-deps --no-build --wait --wait-timeout "$wait_s" \
        --scale "$1=$2" "${@:3}" "$1"
}

replace_api() {
    local service=$1 before after new id
    before=$(docker compose ps --quiet "$service")
    local count
    count=$(wc -w <<<"$before")
    if [ "$count" = 0 ]; then
        start "$service" 1
        return
    fi
    if ! start "$service" $((count * 2)) --no-recreate; then
        after=$(docker compose ps --all --quiet "$service")
        new=$(comm -13 <(sort <<<"$before") <(sort <<<"$after"))
        for id in $new; do
            docker logs --tail 20 "$id" >&2
            docker rm --force "$id" >/dev/null
        done
        echo "$service: the new container did not become healthy and was removed; the old one goes on" >&2
        exit 1
    fi
    sleep "$addresses_s"
    for id in $before; do
        docker stop --time 75 "$id" >/dev/null # stop_grace_period
        docker rm "$id" >/dev/null
    done
}

replace_worker() {
    local service=$1 id
    if start "$service" 1; then return; fi
    for id in $(docker compose ps --all --quiet "$service"); do
        docker logs --tail 20 "$id" >&2
    done
    echo "$service: the new container did not become healthy, and the old one is removed already, so no worker of this" \
        "service works: set the previous VERSION and start this script again" >&2
    exit 1
}

for service in "$@"; do
    echo "$service: replacing"
    if [[ " $apis " == *" $service "* ]]; then replace_api "$service"; else replace_worker "$service"; fi
    echo "$service: $(docker compose ps --format '{{.Name}} {{.Image}}' "$service" | paste -sd ' ')"
done
