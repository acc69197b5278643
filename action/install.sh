#!/usr/bin/env bash
# Install this checkout of exporter with the packages of its lock into an environment of its own, once a job.
set -euo pipefail

venv=$RUNNER_TEMP/exporter-venv
lock=$GITHUB_ACTION_PATH/requirements.lock
if ! cmp -s "$lock" "$venv/requirements.lock"; then
    # CPU builds of torch, instead of gigabytes for a GPU that hosted runners lack.
    export PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL-https://download.pytorch.org/whl/cpu}
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    "$PYTHON" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet -r "$lock"
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation "$GITHUB_ACTION_PATH"
    cp "$lock" "$venv/requirements.lock"
fi
"$venv/bin/exporter" --version
echo "exporter=$venv/bin/exporter" >>"$GITHUB_OUTPUT"
