#!/usr/bin/env bash
# Print the notes of a release, `release_notes.sh v1.2.3`: the subject of each commit since the tag before it.
# Migrations come first, because they run before the code.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?the tag of the release}
before=$(git describe --tags --abbrev=0 --match 'v*' "$version^" 2>/dev/null || true)
if [ -z "$before" ]; then echo "The first release." && exit; fi
list() { git log --reverse --no-merges --format='- %s (%h)' "$before..$version" -- "$@"; }
migrations=$(list 'services/*/migrations/versions/*')
if [ -n "$migrations" ]; then printf '## Migrations\n\n%s\n\n' "$migrations"; fi
printf '## Changes since %s\n\n%s\n' "$before" "$(list .)"
