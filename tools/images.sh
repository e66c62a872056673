#!/usr/bin/env bash
# Build the images of a release: `images.sh [--sign] COMMAND…`, where COMMAND builds one image, such as `docker build`.
# VERSION is their tag, and IMAGE_PREFIX comes before their names. With `--sign`, the digests that were pushed are signed.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VERSION:?set VERSION to the tag of the images}"
sign=
if [ "${1:-}" = --sign ]; then sign=yes && shift; fi
digests=$(mktemp)
trap 'rm -f "$digests"' EXIT

build() { # build NAME OPTION…
    local image="${IMAGE_PREFIX:-}cooee-$1" options=()
    [ -z "$sign" ] || options=(--metadata-file "$digests")
    "${command[@]}" "${options[@]}" --file deploy/Dockerfile --tag "$image:$VERSION" "${@:2}" .
    [ -n "$sign" ] || return 0
    # The signature is of the digest: a tag can be moved to another image.
    cosign sign --yes "$image@$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' "$digests")"
}

command=("$@")
[ $# -gt 0 ] || { echo "usage: images.sh [--sign] COMMAND…" >&2 && exit 2; }
for service in gateway contacts scheduling delivery; do
    build "$service" --target service --build-arg "SERVICE=$service"
done
build operator --target operator
