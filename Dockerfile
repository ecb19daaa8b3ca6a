FROM python:3.11-slim

# make runs the targets, git is asked for the commit by the provenance.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /kahlervae
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    PIP_NO_CACHE_DIR=1

# The environment first: it is built anew only when the lock changes.
COPY Makefile pyproject.toml requirements.txt README.md LICENSE ./
COPY src src
RUN make install

COPY . .
CMD ["make", "reproduce"]
