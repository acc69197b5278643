# Builds an artifact by a recipe, measures it and judges it; ends with the gate's exit code. From the repository's root:
#
#   docker build -f deploy/build.Dockerfile -t exporter-build .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" exporter-build export my-recipe.yaml
#
# The artifact is under artifacts/ of the folder that is mounted. For a GPU's torch: --build-arg TORCH_INDEX=

ARG BASE=python:3.11-slim-bookworm

FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/venv
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" /opt/venv/bin/python -m pip install --no-cache-dir -r requirements.lock
COPY exporter exporter
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    EXPORTER_CACHE=/tmp/exporter-cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["exporter"]
CMD ["--help"]
