# Everything here sets itself up: the first run makes .venv and installs what is missing, later runs find it done.
.DEFAULT_GOAL := help
.PHONY: help demo test slow check lint types bench chaos image mutants docs clean

BIN := .venv/bin
READY := .venv/.ready
FILE ?=
SCALE ?= 1
SEED ?=
QUICK ?=
ONLY ?=
JSON ?=
PEERS ?=
ALL_PEERS := celery,dramatiq,huey,procrastinate,rq,taskiq

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## read a scanned page: text and entities; FILE=page.pdf for one of your own
	@$(BIN)/python -m supervisor demo $(if $(FILE),'$(FILE)')

test: $(READY) ## run the tests
	$(BIN)/pytest -n 4 --dist loadfile --durations=10

slow: $(READY) ## run the tests that take long; as root, with a browser that is installed for one of them
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || apt-get install -y -qq --no-install-recommends chromium
	$(BIN)/pytest -n 4 --dist loadfile -m 'slow and not chaos'

check: lint types test ## lint, types and tests: what CI runs

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

bench: $(READY) ## measure us beside the raw limits; QUICK=1, ONLY=noop,pick_up, PEERS=1 or PEERS=rq,huey, JSON=file
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(if $(filter 1,$(PEERS)),$(ALL_PEERS),$(PEERS))) $(if $(JSON),--json '$(JSON)')

chaos: $(READY) ## kill everything at random and look for what is lost; SCALE=0.2 for a part of it, SEED=N for one again
	$(BIN)/python -m tests.chaos --scale $(SCALE) $(if $(SEED),--seed $(SEED))

image: $(READY) ## build the image in deploy/ without Docker, and run it; as root, with buildah, runc and debootstrap
	$(BIN)/pytest -m image

mutants: $(READY) ## take out one safeguard at a time, and see that a test notices
	$(BIN)/python -m tests.mutants

docs: $(READY) ## write the reference pages from the code
	$(BIN)/python -m supervisor.reference

clean: ## remove the virtual environment and caches
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh .venv
