# One file, a target per role: docker compose builds them. Everything is pinned by requirements/.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PATH=/opt/rollcall/bin:$PATH
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/rollcall
WORKDIR /rollcall
COPY requirements requirements
RUN pip install -r requirements/torch.txt && pip install --no-deps -r requirements/cpu.txt
COPY . .
RUN pip install --no-deps --no-build-isolation .
VOLUME /data
ENTRYPOINT ["rollcall"]

FROM node:20-bookworm-slim AS anvil
RUN npm install --global @foundry-rs/anvil@1.7.1
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
