#!/usr/bin/env bash
# Name what the cache holds: the packages of the lock for this Python, and what was measured of one recipe.
set -euo pipefail

if [ "${GITHUB_EVENT_NAME:-}" = pull_request_target ]; then
    echo "error: on pull_request_target a stranger's recipe would run with your secrets; use pull_request" >&2
    exit 2
fi
if [ ! -f "$RECIPE" ]; then
    echo "error: there is no recipe ${RECIPE@Q} in the checkout; run actions/checkout before, and see the input 'recipe'" >&2
    exit 2
fi
digest() { sha256sum -- "$1" | cut -c 1-16; }
{
    echo "packages=exporter-${RUNNER_OS:-}-${RUNNER_ARCH:-}-$PYTHON_VERSION-$(digest "$GITHUB_ACTION_PATH/requirements.lock")"
    echo "recipe=$(digest "$RECIPE")"
} >>"$GITHUB_OUTPUT"
