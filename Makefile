# make demo     a whole market on this machine, with a report
# make test     set up what tests need and run them
# make check    ruff, mypy strict, import-linter
# make contracts    the contracts: artifacts as committed, Forge's tests, Slither
PYTHON ?= python3
ARGS ?=
REQUIREMENTS := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo requirements/gpu.txt || echo requirements/cpu.txt)
BIN := .venv/bin
READY := .venv/.ready
# The contracts' compiler, anvil and Forge, where Node is: using and testing the rest needs none of them.
NODE_READY := $(shell command -v npm >/dev/null 2>&1 && echo contracts/node_modules/.ready)

.PHONY: setup demo test test-slow test-gpu check bench contracts contracts-build contracts-mutants clean

setup: $(READY)

$(READY): requirements/torch.txt $(REQUIREMENTS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rollcall needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	@echo "Setting up .venv from $(REQUIREMENTS) (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements/torch.txt
	$(BIN)/pip install -q --no-deps --require-hashes -r $(REQUIREMENTS)
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $(READY)

contracts/node_modules/.ready: contracts/package-lock.json
	@# Not npm ci: it wants every platform's binary in the lock, and npm writes only those that it could see.
	@npm install --no-save --silent --prefix contracts && touch $@ || echo "npm failed: tests that need anvil or the compiler are skipped"

demo: $(READY)
	@$(BIN)/rollcall demo $(ARGS)

# A market's processes share two cores with the tests: threads of torch that wait for one another by spinning crawl.
test test-slow: export OMP_NUM_THREADS ?= 1

test: $(READY) $(NODE_READY)
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-slow: $(READY) $(NODE_READY)
	$(BIN)/pytest -m "slow" $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

# Needs npm. Not npm's own wrapper of Forge: it exits 0 whatever the tests say. Slither comes from PyPI into build/.
contracts: $(READY) contracts/node_modules/.ready
	$(BIN)/python -m contracts.tools.build --check
	cd contracts && node_modules/@foundry-rs/forge-*/bin/forge test
	$(BIN)/python -m contracts.tools.slither

contracts-build: $(READY) contracts/node_modules/.ready
	$(BIN)/python -m contracts.tools.build

contracts-mutants: $(READY) contracts/node_modules/.ready
	$(BIN)/python -m contracts.tools.mutants --write $(ARGS)

test-gpu: $(READY)
	$(BIN)/pytest -m gpu $(ARGS)

clean:
	rm -rf build out report .mypy_cache .ruff_cache .pytest_cache .hypothesis
