# Every recipe sets itself up: a .venv in the checkout, from requirements.lock, skipped when current.

set shell := ["bash", "-euo", "pipefail", "-c"]
python := env("PYTHON", "python3")
transformers_js := "4.3.1"

# List the recipes
default:
    @{{ just_executable() }} --list --unsorted

# Build, verify and judge recipes/NAME.yaml: int8, int8-static, onnx, openvino, all, ms-marco-minilm-l6
export NAME *FLAGS: _setup
    @.venv/bin/exporter export recipes/{{ NAME }}.yaml {{ FLAGS }}

# Measure the artifact of recipes/NAME.yaml again
verify NAME *FLAGS: _setup
    @.venv/bin/exporter verify recipes/{{ NAME }}.yaml {{ FLAGS }}

# Judge the stored report of recipes/NAME.yaml again, also against other bars: --bars FILE
gate NAME *FLAGS: _setup
    @.venv/bin/exporter gate recipes/{{ NAME }}.yaml {{ FLAGS }}

# Deliver what passed of recipes/NAME.yaml to PLACE: a folder, hf://org/name, oci://registry/name:tag, s3://bucket/prefix
publish NAME PLACE *FLAGS: _setup
    @.venv/bin/exporter publish recipes/{{ NAME }}.yaml {{ PLACE }} {{ FLAGS }}

# Load the published folder DIR in every library of requirements-peers.lock, and in transformers.js where there is node
check-consumers DIR *FLAGS: _setup _peers
    @if command -v npm >/dev/null; then npm install --silent --ignore-scripts --prefix .venv @huggingface/transformers@{{ transformers_js }}; fi
    @.venv/bin/exporter check-consumers {{ DIR }} {{ FLAGS }}

# Time every ONNX kind beside the libraries of requirements-peers.lock: --lengths, --scaling, --peer NAME
bench *FLAGS: _setup _peers
    @.venv/bin/exporter export recipes/bench.yaml --build-only
    @.venv/bin/exporter bench recipes/bench.yaml {{ FLAGS }}

# Try the gate on recipes/NAME.yaml's artifact made wrong on purpose; --trials 40 measures its error rates too
selftest NAME="int8" *FLAGS: _setup
    @.venv/bin/exporter export recipes/{{ NAME }}.yaml --build-only
    @.venv/bin/exporter selftest recipes/{{ NAME }}.yaml {{ FLAGS }}

# All GPU checks, with the report under docs/measurements; the machine needs torch, sentence-transformers and a CUDA device
gpu-check *FLAGS:
    @{{ python }} -m exporter gpu-check recipes/int8.yaml --to docs/measurements {{ FLAGS }}

# Run the tests
test *FLAGS: _setup
    @.venv/bin/python -m pytest {{ FLAGS }}

# Check style, types and import rules
lint: _setup
    @.venv/bin/ruff check .
    @.venv/bin/ruff format --check .
    @.venv/bin/mypy
    @.venv/bin/lint-imports --no-logo

# Everything that must be clean before a change lands
check: lint test

# Resolve both locks anew (needs uv). NVIDIA's packages are left out: the torch that pip finds brings what it needs
lock:
    uv pip compile -q --universal --python-version 3.11 --extra dev --no-header --no-annotate pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock
    uv pip compile -q --universal --python-version 3.11 --extra dev --extra peers -c requirements.lock --no-header --no-annotate pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements-peers.lock

_setup:
    @cmp -s requirements.lock .venv/installed.lock || {{ just_executable() }} _install

_peers:
    @cmp -s requirements-peers.lock .venv/peers.lock || (.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-peers.lock && cp requirements-peers.lock .venv/peers.lock)

_install:
    @{{ python }} -c 'import sys; sys.exit(sys.version_info < (3, 11) and "exporter needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
    @echo "setting up .venv from requirements.lock, once: two to three minutes" >&2
    @rm -f .venv/installed.lock
    @{{ python }} -m venv .venv
    @.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock
    @.venv/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
    @cp requirements.lock .venv/installed.lock
