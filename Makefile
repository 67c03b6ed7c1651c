# Every verb is one call. `make help` lists them.
SHELL := /bin/sh
# the libraries are large: compiling them anew in every process would cost a minute each
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
OPTIONS = $(if $(SCALE),--scale $(SCALE)) $(if $(DATA),--data $(DATA)) $(if $(WORKLOAD),--workload $(WORKLOAD)) $(ARGS)
# the policies run in every preview and update once their own environment is there (infra/policies)
PACK = $(if $(wildcard infra/policies/venv),--policy-pack policies)

# the tests that share nothing run side by side (tests/conftest.py); WORKERS=0 runs them in one process
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-infra lint bench bench-canary bench-scale clean chaos test-kill images test-pod up preview drift stack

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install both environments from the lock (the other verbs do it too)
	@$(if $(PYTHON),$(PYTHON),$(error Seaway needs Python 3.11 or 3.12 on PATH, or PYTHON=/path/to/python)) -P seaway/bootstrap.py

demo: setup ## the release train, from raw data to a promoted canary [SCALE=small] [DATA=path]
	@.venv/bin/seaway demo $(OPTIONS)

test: setup lint ## the tests, about fifteen minutes on two cores
	@.venv/bin/python -m pytest -m "not slow and not infra" -n $(WORKERS) --no-loadscope-reorder $(ARGS)

test-slow: setup ## the long tests: published scale, kill -9 at random moments
	@.venv/bin/python -m pytest -m slow

test-infra: setup ## the infrastructure on a real engine and cluster; says what cannot run here and why (docs/testing.md)
	@.venv/bin/python -m pytest -rs -m "infra and not slow" $(ARGS)

chaos: setup ## 1,000 random histories of a release under faults, each checked [ARGS=--seed 7]
	@.venv/bin/python -m tests.robustness --count 1000 $(ARGS)

test-kill: setup ## kill -9 of the controller, servers and Envoy in a release under live traffic
	@.venv/bin/python -m pytest -q -s tests/e2e/test_controller_kill.py

images: setup ## build the images, or only check them and write their bills [CHECK=1] [TAG=dev] [PUSH=registry] [ARGS=serve]
	@.venv/bin/python -m images.build $(if $(CHECK),--check) $(if $(TAG),--tag $(TAG)) $(if $(PUSH),--push $(PUSH)) $(ARGS)

test-pod: setup ## the images in real pods, where buildah, containerd and a kubelet are found (docs/testing.md)
	@.ci/pod

preview: stack setup ## what `make up` would change [ENV=dev]
	@cd infra && pulumi preview --stack $(ENV) $(PACK) $(ARGS)

up: stack setup ## the platform of an environment, on its cluster (docs/laptop-to-prod.md) [ENV=dev]
	@cd infra && pulumi up --stack $(ENV) $(PACK) $(ARGS)
	@.venv/bin/python -m infra.record --env $(ENV)

drift: stack setup ## fails where the cluster or the settings are not as the last `make up` left them [ENV=dev]
	@cd infra && pulumi refresh --preview-only --expect-no-changes --non-interactive --diff --stack $(ENV)
	@cd infra && pulumi preview --expect-no-changes --non-interactive --stack $(ENV)

stack:
	@test -n "$(ENV)" || { echo "give ENV=dev, staging or prod" >&2; exit 2; }
	@command -v pulumi >/dev/null || { echo "pulumi is not on PATH: https://www.pulumi.com/docs/install" >&2; exit 2; }

lint: setup ## style and layers
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports

bench: setup ## each performance claim, both sides in one run
	@.venv/bin/python -m benchmarks

bench-canary: setup ## the promotion gate against other gates, 10,000 releases a cell [ARGS=--write-docs]
	@.venv/bin/python -m benchmarks.canary $(ARGS)

bench-scale: setup ## the bars of work at scale, with nothing else running [ARGS="--only target planning"]
	@.venv/bin/python -m benchmarks.scale $(ARGS)

clean: ## remove what runs have made; the environments stay
	rm -rf .seaway .pytest_cache .ruff_cache .hypothesis .import_linter_cache
