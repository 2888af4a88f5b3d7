# Everything that a developer or CI runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FUZZ_EXAMPLES ?= 50000
# More than there are cores is faster, as tests wait more than they work, and leaves less room for those that watch a clock.
JOBS ?= auto
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-find-links \
	--custom-compile-command "make lock" --upgrade

.PHONY: help setup run test check fmt e2e traefik istio-tools collector helm-tools helm-snapshots fuzz bench bench-quick bench-tools bench-sharing bench-replicas bench-routes bench-shim lambda-zip release-tools image docs lock clean

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Build .venv with the locked dependencies

$(READY): requirements/dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or later is needed; name it with make PYTHON=…" >&2; exit 1; }
	@echo "Setting up $(VENV) (once)…"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY) ## Start the service with a development issuer, and print lines to paste
	@$(BIN)/verifier dev

test: $(READY) ## Run the whole suite; core/ must be covered to the last branch
	$(BIN)/pytest -n $(JOBS) --cov --cov-report=
	$(BIN)/coverage report --include='verifier/core/*' --fail-under=100 --skip-covered
	@$(BIN)/coverage report | tail -n 1

check: $(READY) ## Lint, format check, types, lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@! grep -nE 'https?://' requirements/*.txt || { echo "lock files must carry no addresses" >&2; exit 1; }
	@! grep -n '"resolved"' tests/e2e/package-lock.json || { echo "lock files must carry no addresses" >&2; exit 1; }

fmt: $(READY) ## Format, and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

e2e: $(READY) ## Test against real programs found on this machine
	@if command -v npm >/dev/null; then cd tests/e2e && npm ci --silent --no-audit --no-fund; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/e2e.txt
	$(BIN)/pytest -m e2e -rs -n auto --dist loadgroup tests/e2e

traefik: $(READY) ## Build Traefik into .tools, where it is missing and Go 1.24 is there (minutes, once)
	@$(BIN)/python -m tests.e2e.gateways.build traefik

istio-tools: $(READY) ## Build Istio's control plane and its checker into .tools, where Go 1.26 is there (minutes, once)
	@$(BIN)/python -m tests.e2e.gateways.build istio

collector: $(READY) ## Build an OpenTelemetry Collector into .tools, where Go 1.25 is there (a minute, once)
	@$(BIN)/python -m tests.e2e.gateways.build collector

helm-tools: $(READY) ## Build Helm, kustomize and Kubernetes' API server into .tools, where Go 1.26 is there (minutes, once)
	@$(BIN)/python -m tests.e2e.gateways.build helm

helm-snapshots: $(READY) ## Write what the chart renders into tests/helm/snapshots, and the generated parts of its files
	@$(BIN)/python -m tests.generated_docs
	@$(BIN)/python -m tests.e2e.kubernetes.helm

fuzz: $(READY) ## Send FUZZ_EXAMPLES bad inputs over HTTP
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest --timeout=1800 -s tests/fuzz

bench: bench-tools ## Measure everything side by side with its peers (about 15 minutes): benchmarks/results/
	@$(BIN)/python -m benchmarks.suite

bench-quick: bench-tools ## The same in under two minutes: the main rows, into a temporary folder
	@$(BIN)/python -m benchmarks.suite --quick

bench-tools: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt

bench-sharing: $(READY) ## Measure signatures against asking Redis about them
	@$(BIN)/python -W ignore -m benchmarks.sharing

bench-replicas: $(READY) ## Measure three replicas, revocations, and a Redis that comes and goes
	@$(BIN)/python -W ignore -m benchmarks.replicas

bench-routes: $(READY) ## Measure finding a route among one and among a thousand
	@$(BIN)/python -m benchmarks.routes

bench-shim: $(READY) ## Measure what the Lambda authorizer adds to a request, and its import
	@$(BIN)/python -m benchmarks.shim

.PHONY: faults soak
faults: $(READY) ## Play the faults that the service meets (12 minutes): docs/reliability.md. ONLY=F12,F18 plays some
	@$(BIN)/python -W ignore -m tests.faults $(if $(ONLY),--only $(ONLY)) $(if $(EVENT_LOOP),--loop $(EVENT_LOOP))

soak: bench-tools ## Mixed traffic with rotations and faults for MINUTES (10), with EVENT_LOOP (uvloop): benchmarks/results/soak-…
	@$(BIN)/python -W ignore -m tests.faults.soak --minutes $(or $(MINUTES),10) $(if $(EVENT_LOOP),--loop $(EVENT_LOOP))

lambda-zip: $(READY) ## Pack the Lambda authorizer: dist/authorizer.zip, the same bytes everywhere
	@$(BIN)/python deploy/lambda/package.py dist/authorizer.zip

release-tools: $(READY) ## Build what checks workflows and Compose files into .tools, where Go 1.24 is there (a minute, once)
	@$(BIN)/python -m tests.e2e.image.tools

image: ## Build the container image token-verifier:dev with Docker or Buildah, whichever is there
	@build="$$(command -v docker >/dev/null && docker info >/dev/null 2>&1 && echo docker build || echo buildah build --format docker)"; \
	$$build -t token-verifier:dev --build-arg "REVISION=$$(git rev-parse HEAD 2>/dev/null)" .

docs: $(READY) ## Write the generated parts of docs/, and the dashboards
	$(BIN)/python -m tests.dashboards
	$(BIN)/python -m tests.generated_docs

lock: $(READY) ## Resolve the dependencies anew (those of e2e and bench go into the same environment as those of dev)
	$(LOCK) pyproject.toml --all-extras -o requirements/runtime.txt
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(LOCK) --group build --constraint requirements/dev.txt -o requirements/build.txt
	$(LOCK) --group e2e --constraint requirements/dev.txt -o requirements/e2e.txt
	$(LOCK) --group bench --constraint requirements/dev.txt --constraint requirements/e2e.txt -o requirements/bench.txt

clean: ## Remove what was built
	rm -rf $(VENV) dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .tools tests/e2e/node_modules
