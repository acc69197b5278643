#!/usr/bin/env bash
# Build, measure and judge RECIPE, compare with BASELINE, and write the summary. Ends with 0 whatever the verdict is:
# the exit code of the command is an output, so that the steps behind can show the report before the job fails.
set -euo pipefail

exporter=${EXPORTER:-exporter}
work=$(mktemp -d "$RUNNER_TEMP/exporter.XXXXXX")
summary=$work/summary.md
log=$work/log
# A hosted runner is one job's machine, with folders of other users above the workspace.
if [ "${RUNNER_ENVIRONMENT:-}" = github-hosted ]; then export EXPORTER_TRUSTED_USERS='*'; fi

# Run a command, keep what it says on stderr in the log, and return its exit code.
run() { { "$exporter" "$@" 2>&1 >&3 | tee -a "$log" >&2; } 3>&1; }

# Print the end of the log as text: nothing in it is Markdown, HTML or a mention.
log_text() {
    echo '<pre>'
    tail -n 20 "$log" | cut -c 1-500 | sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'
    echo '</pre>'
}

has_report() { [ -n "$artifact" ] && [ -f "$artifact/report.json" ]; }

build_and_judge() {
    local words=()
    read -ra words <<<"${ARGS:-}" || true
    code=0
    mkdir "$work/artifacts"
    run export ${words[@]+"${words[@]}"} --out "$work/artifacts" -- "$RECIPE" || code=$?
    artifact=$(find "$work/artifacts" -mindepth 2 -maxdepth 2 -name manifest.json -printf '%h\n' | head -n 1)
    # No verdict: the measurement was too noisy. It is the only code that another try may change.
    if [ "$code" = 5 ] && has_report; then
        code=0
        run verify -- "$artifact" || code=$?
    fi
    if [ "$code" = 0 ] && ! has_report; then
        echo "error: nothing was measured; take --build-only out of the input 'args'" | tee -a "$log" >&2
        code=2
    fi
}

# What got worse fails the job; where nothing can be compared, the gate decides alone.
compare() {
    local old=$BASELINE compared=0
    if [ ! -e "$old" ]; then
        old=$work/baseline
        run pull -- "$BASELINE" "$old" || compared=$?
    fi
    [ "$compared" != 0 ] || run compare --to "$work/compare.md" -- "$old" "$artifact" || compared=$?
    case $compared in
        0) ;;
        1) case $code in 0 | 5) code=1 ;; esac ;;
        5) echo "::warning::nothing could be compared with the baseline; the gate decides alone" ;;
        *) if [ "$code" = 0 ]; then code=$compared; fi ;;
    esac
}

build_and_judge
if [ -n "${BASELINE:-}" ] && has_report; then compare; fi
case $code in
    0) verdict=pass ;;
    1) verdict=fail ;;
    5) verdict=invalid ;;
    *) verdict=error ;;
esac

{
    if has_report; then cat "$artifact/report.md"; fi
    if [ -f "$work/compare.md" ]; then echo; cat "$work/compare.md"; fi
    if [ "$code" != 0 ]; then echo; echo "Exit code $code ($verdict):"; echo; log_text; fi
} >"$summary"
# Larger summaries than 1 MiB are refused. Cut at a line's end.
# Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#adding-a-job-summary
if [ "$(wc -c <"$summary")" -le 1000000 ]; then
    cat "$summary" >>"$GITHUB_STEP_SUMMARY"
else
    head -c 1000000 "$summary" | sed '$d' >>"$GITHUB_STEP_SUMMARY"
fi

{
    echo "exit-code=$code"
    echo "verdict=$verdict"
    echo "artifact=$artifact"
    echo "summary=$summary"
} >>"$GITHUB_OUTPUT"
if has_report; then
    mkdir "$work/report"
    cp "$artifact"/report.* "$work/report/"
    if [ -f "$work/compare.md" ]; then cp "$work/compare.md" "$work/report/"; fi
    echo "report=$work/report" >>"$GITHUB_OUTPUT"
fi
