# One file, a target per role: docker compose builds them. Everything is pinned by requirements/.
FROM python:3.11-slim-bookworm AS base
# Whatever a library caches goes below HOME: compose mounts /tmp, and nothing else but /data can be written.
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HOME=/tmp PATH=/opt/rollcall/bin:$PATH
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 rollcall \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin rollcall \
    && install -d -o 10001 -g 10001 -m 0700 /data \
    && install -d -o 10001 -g 10001 /deployment
RUN python -m venv /opt/rollcall
WORKDIR /rollcall
COPY requirements requirements
RUN pip install -r requirements/torch.txt \
    && pip install --no-deps --require-hashes -r requirements/cpu.txt
# Folder by folder: what is not named here and in .dockerignore is in no image.
COPY pyproject.toml README.md LICENSE ./
COPY protocol protocol
COPY local local
COPY client client
COPY ledger ledger
COPY audit audit
COPY orchestrator orchestrator
COPY rollout_worker rollout_worker
COPY trainer trainer
COPY devchain devchain
COPY contracts contracts
COPY rollcall rollcall
COPY models models
RUN pip install --no-deps --no-build-isolation . && rollcall --help > /dev/null
USER 10001:10001
ENTRYPOINT ["rollcall"]

FROM node:20-bookworm-slim AS anvil
RUN npm install --global @foundry-rs/anvil@1.7.1 && install -d -o 1000 -g 1000 -m 0700 /data
ENV HOME=/tmp
USER 1000:1000
ENTRYPOINT ["anvil"]

FROM base AS orchestrator
EXPOSE 8000
CMD ["serve", "--config", "/config/orchestrator.toml"]

FROM base AS trainer
CMD ["train", "--config", "/config/trainer.toml"]

FROM base AS verifier
CMD ["verify", "--config", "/config/verifier.toml"]

FROM base AS worker
CMD ["join", "--config", "/config/worker.toml"]

FROM base AS launch
CMD ["launch", "--config", "/config/launch.toml"]
