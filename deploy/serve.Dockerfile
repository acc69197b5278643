# Serves an artifact: no torch, no compiler, no pip; 232 MB beside the base image. From the repository's root:
#
#   docker build -f deploy/serve.Dockerfile -t exporter-serve .
#   docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --user "$(id -u):$(id -g)" \
#       -p 8080:8080 -v "$PWD/artifacts/sample-int8:/artifact:ro" exporter-serve
#
# The user has to be the one whose artifact it is; a copy in an image (COPY artifacts/sample-int8 /artifact) is root's,
# which every user may read.

ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS install
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY deploy/requirements-serve.lock deploy/
COPY exporter exporter
RUN python -m venv /opt/venv
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-deps -r deploy/requirements-serve.lock
RUN /opt/venv/bin/python -m pip install --no-cache-dir "$(grep '^setuptools==' requirements.lock)"
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .
RUN /opt/venv/bin/python -m pip uninstall --yes setuptools pip

FROM ${BASE}
COPY --from=install /opt/venv /opt/venv
COPY deploy/app.py deploy/health.py /app/
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EXPORTER_ARTIFACT=/artifact \
    UVICORN_HOST=0.0.0.0 \
    UVICORN_PORT=8080 \
    UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN=20
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s --retries=3 CMD ["python", "/app/health.py"]
CMD ["uvicorn", "--factory", "--app-dir", "/app", "--ws", "none", "--no-access-log", "app:create"]
