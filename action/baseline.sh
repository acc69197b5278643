#!/usr/bin/env bash
# Fetch the report of the last push to BRANCH that passed this workflow. Without one there is nothing to compare.
set -euo pipefail

[ -n "${BRANCH:-}" ] || exit 0
workflow=${GITHUB_WORKFLOW_REF%%@*} # OWNER/REPOSITORY/.github/workflows/FILE@REF
folder=$(mktemp -d "$RUNNER_TEMP/exporter-baseline.XXXXXX")

# Only pushes: a pull request from a fork may come from a branch of the same name.
if id=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow "${workflow##*/}" --branch "$BRANCH" --event push \
    --status success --limit 1 --json databaseId --jq '.[0].databaseId // ""') && [ -n "$id" ] &&
    gh run download "$id" --repo "$GITHUB_REPOSITORY" --name "$REPORT_NAME" --dir "$folder" &&
    [ -f "$folder/report.json" ]; then
    echo "report=$folder/report.json" >>"$GITHUB_OUTPUT"
else
    echo "::notice::no report of a push to the baseline branch could be fetched; nothing is compared"
fi
