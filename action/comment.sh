#!/usr/bin/env bash
# Keep one comment with the summary on a pull request of this repository. A fork's token cannot write: there, and on
# anything else than a pull request, the step summary is all. A comment that cannot be written fails no job.
set -euo pipefail

if [ "${GITHUB_EVENT_NAME:-}" != pull_request ] || [ "${WANTED:-true}" != true ]; then exit 0; fi
if [ "${HEAD_REPOSITORY:-}" != "$GITHUB_REPOSITORY" ]; then
    echo "::notice::a pull request from a fork: the report is in the step summary, no comment is written"
    exit 0
fi
if [ ! -s "${BODY:-}" ]; then exit 0; fi

# One comment for each recipe, found by a mark that its text cannot hold: reports escape what looks like HTML.
MARK="<!-- exporter $(printf '%s' "$RECIPE" | sha256sum | cut -c 1-16) -->"
export MARK
text=$(mktemp "$RUNNER_TEMP/exporter-comment.XXXXXX")
{
    echo "$MARK"
    # A comment has 65,536 characters at most.
    head -c 60000 "$BODY" | if [ "$(wc -c <"$BODY")" -le 60000 ]; then cat; else sed '$d'; fi
    if [ "$(wc -c <"$BODY")" -gt 60000 ]; then printf '\nThe rest is in the step summary.\n'; fi
} >"$text"

comments=repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments
if id=$(gh api --paginate "$comments" --jq '.[] | select(.user.type == "Bot" and (.body | startswith(env.MARK))) | .id') &&
    id=${id%%$'\n'*} &&
    if [ -n "$id" ]; then
        gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" --field "body=@$text"
    else
        gh api --silent --method POST "$comments" --field "body=@$text"
    fi; then
    exit 0
fi
echo "::notice::the comment could not be written (the job needs 'pull-requests: write'); the report is in the step summary"
