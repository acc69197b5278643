# Run these with ./just, which needs Python and nothing else. Every recipe sets itself up: a .venv in the checkout, from
# requirements.lock, skipped when current.

set shell := ["bash", "-euo", "pipefail", "-c"]
python := quote(env("PYTHON", "python3"))
just := quote(just_executable())
transformers_js := "4.3.1"
failed := '{ echo "error: pip failed, see above; run this again" >&2; exit 3; }'

# List the recipes
default:
    @{{ just }} --list --unsorted

# Set .venv up, and no more
setup: _setup

# Build, verify and judge recipes/NAME.yaml: int8, int8-static, onnx, openvino, all, fleet, ms-marco-minilm-l6
[no-exit-message]
export NAME *FLAGS: _setup
    @.venv/bin/exporter export recipes/{{ NAME }}.yaml {{ FLAGS }}

# Measure the artifact of recipes/NAME.yaml again
[no-exit-message]
verify NAME *FLAGS: _setup
    @.venv/bin/exporter verify recipes/{{ NAME }}.yaml {{ FLAGS }}

# Judge the stored report of recipes/NAME.yaml again, also against other bars: --bars FILE
[no-exit-message]
gate NAME *FLAGS: _setup
    @.venv/bin/exporter gate recipes/{{ NAME }}.yaml {{ FLAGS }}

# Deliver what passed of recipes/NAME.yaml to PLACE: a folder, hf://org/name, oci://registry/name:tag, s3://bucket/prefix
[no-exit-message]
publish NAME PLACE *FLAGS: _setup
    @.venv/bin/exporter publish recipes/{{ NAME }}.yaml {{ PLACE }} {{ FLAGS }}

# Load the published folder DIR in every library of requirements-peers.lock, and in transformers.js where there is node
[no-exit-message]
check-consumers DIR *FLAGS: _setup _peers
    @if command -v npm >/dev/null; then npm install --silent --ignore-scripts --prefix .venv @huggingface/transformers@{{ transformers_js }}; fi
    @.venv/bin/exporter check-consumers {{ DIR }} {{ FLAGS }}

# Time every ONNX kind beside the libraries of requirements-peers.lock: --lengths, --scaling, --peer NAME
[no-exit-message]
bench *FLAGS: _setup _peers
    @.venv/bin/exporter export recipes/bench.yaml --build-only
    @.venv/bin/exporter bench recipes/bench.yaml {{ FLAGS }}

# Try the gate on recipes/NAME.yaml's artifact made wrong on purpose; --trials 40 measures its error rates too
[no-exit-message]
selftest NAME="int8" *FLAGS: _setup
    @.venv/bin/exporter export recipes/{{ NAME }}.yaml --build-only
    @.venv/bin/exporter selftest recipes/{{ NAME }}.yaml {{ FLAGS }}

# All GPU checks, with the report under docs/measurements; the machine needs torch, sentence-transformers and a CUDA device
[no-exit-message]
gpu-check *FLAGS:
    @{{ python }} -m exporter gpu-check recipes/int8.yaml --to docs/measurements {{ FLAGS }}

# Kill exporters that share artifacts and cache at random: --minutes 10, --seed 1
[no-exit-message]
stress *FLAGS: _setup
    @.venv/bin/python -m tests.stress {{ FLAGS }}

# Feed the readers of manifests, models, tokenizers, pairs, recipes changed inputs: --minutes 10, --seed 1
[no-exit-message]
fuzz *FLAGS: _setup
    @.venv/bin/python -m tests.fuzz {{ FLAGS }}

# Run the tests, in two processes
[no-exit-message]
test *FLAGS: _setup
    @.venv/bin/python -m pytest -n 2 --dist loadfile {{ FLAGS }}

# Run the tests that need Daft and Ray, which requirements-cluster.lock adds to .venv
[no-exit-message]
test-cluster *FLAGS: _setup _cluster
    @.venv/bin/python -m pytest tests/runtime/test_daft.py tests/test_large_jobs.py tests/jobs/test_cluster.py {{ FLAGS }}

# Check style, types and import rules
[no-exit-message]
lint: _setup
    @.venv/bin/ruff check .
    @.venv/bin/ruff format --check .
    @.venv/bin/mypy
    @.venv/bin/mypy deploy
    @.venv/bin/lint-imports --no-logo

# Everything that must be clean before a change lands
[no-exit-message]
check: lint test

# Build the wheel into dist/; `pip install` takes it with extras too, see docs/how-to/serve.md
wheel: _setup
    @rm -rf build
    @.venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . >&2
    @ls -t dist/*.whl | head -n 1

# Resolve the three locks anew (needs uv). NVIDIA's packages are left out: the torch that pip finds brings what it needs
lock:
    uv pip compile -q --universal --python-version 3.11 --extra dev --no-header --no-annotate pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock
    uv pip compile -q --universal --python-version 3.11 --extra dev --extra peers -c requirements.lock --no-header --no-annotate pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements-peers.lock
    uv pip compile -q --universal --python-version 3.11 --extra dev --extra daft --extra ray -c requirements.lock --no-header --no-annotate pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements-cluster.lock

# PYTHON, where it is given, decides the Python of .venv. Whoever comes second waits, and finds it done.
_setup:
    @[ -z "${PYTHON:-}" ] || ./just _venv
    @cmp -s requirements.lock .venv/requirements.lock || { \
        exec 9<requirements.lock; \
        if command -v flock >/dev/null && ! flock -n 9; then echo "waiting for another set-up of .venv" >&2; flock 9; fi; \
        cmp -s requirements.lock .venv/requirements.lock || {{ just }} _install; \
    }

# compat: by its path. By setuptools' finder, a Python that starts above a clone named exporter takes the clone for it.
_install:
    @./just _venv
    @echo "setting up .venv from requirements.lock, once: two to three minutes" >&2
    @rm -f .venv/requirements.lock
    @.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock || {{ failed }}
    @.venv/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps --config-settings editable_mode=compat -e . || {{ failed }}
    @cp requirements.lock .venv/requirements.lock

_cluster:
    @cmp -s requirements-cluster.lock .venv/cluster.lock || { \
        .venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-cluster.lock || {{ failed }}; \
        cp requirements-cluster.lock .venv/cluster.lock; \
    }

_peers:
    @cmp -s requirements-peers.lock .venv/peers.lock || { \
        .venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-peers.lock || {{ failed }}; \
        cp requirements-peers.lock .venv/peers.lock; \
    }
