#!/usr/bin/env bash
# Publish what passed to PLACE: never on a pull request, never what did not pass.
set -euo pipefail

[ -n "${PLACE:-}" ] || exit 0
case ${GITHUB_EVENT_NAME:-} in
    pull_request*)
        echo "::notice::nothing is published from a pull request"
        exit 0
        ;;
esac
if [ "$CODE" != 0 ]; then
    echo "::notice::nothing is published: exit code $CODE"
    exit 0
fi
if [ "${RUNNER_ENVIRONMENT:-}" = github-hosted ]; then export EXPORTER_TRUSTED_USERS='*'; fi
words=()
read -ra words <<<"${ARGS:-}" || true
"${EXPORTER:-exporter}" publish --builder "$GITHUB_SERVER_URL/$GITHUB_WORKFLOW_REF" ${words[@]+"${words[@]}"} \
    -- "$ARTIFACT" "$PLACE"
