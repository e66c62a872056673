# Everything a person starts. `make help` reads the comments behind the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…") if sys.version_info < (3, 11) else None'
	@echo "installing what Cooee needs into $(VENV) (a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/python -c 'import pathlib, sysconfig; root = pathlib.Path.cwd(); places = [root, root / "libs/common/src", *sorted(root.glob("services/*/src"))]; pathlib.Path(sysconfig.get_path("purelib"), "cooee.pth").write_text("".join(f"{p}\n" for p in places))'
	@touch $(STAMP)

.PHONY: setup
setup: $(STAMP) ## the virtual environment, from the hash-locked requirements

.PHONY: demo
demo: $(STAMP) ## the main job on the embedded stack, from a spreadsheet to a handset (KEEP=1 leaves it running)
	@$(BIN)/python -m tools.demo $(if $(KEEP),--keep)

.PHONY: run
run: $(STAMP) ## the embedded stack, kept running until Ctrl-C
	@exec $(BIN)/python -m tools.embedded

.PHONY: token
token: $(STAMP) ## a session token for the running stack: ORG=org_demo USER=user_demo ROLE=admin
	@$(BIN)/python -m tools.token --org $(or $(ORG),org_demo) --user $(if $(filter command line,$(origin USER)),$(USER),user_demo) --role $(or $(ROLE),admin)

.PHONY: test
test: $(STAMP) ## all tests that need no Docker, on embedded PostgreSQL and broker
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not stack and not compose and not browser" --cov --cov-report=term:skip-covered $(ARGS)
	@$(BIN)/python -m pytest -m stack $(ARGS)

.PHONY: test-browser
test-browser: $(STAMP) ## the handset's page in Debian's chromium, which is installed when we are root
	@tools/chromium.sh
	@$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

.PHONY: test-containers
test-containers: $(STAMP) ## the same tests on PostgreSQL and Apache Kafka in containers
	@$(BIN)/python -m tools.containers $(BIN)/python -m pytest -m "not stack and not compose and not embedded" libs services --ignore services/delivery/tests/providers $(ARGS)

.PHONY: e2e
e2e: $(STAMP) ## images built, compose up, the demo's journey against it, down
	@$(BIN)/python -m pytest -m compose tests/e2e $(ARGS)

.PHONY: check
check: $(STAMP) ## lint, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy libs/common/src tools $(wildcard services/*/src)
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(STAMP) ## formats the code and mends what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(STAMP) ## throughput, lateness, requests/s and memory, measured on the embedded stack
	@$(BIN)/python -m tools.bench $(ARGS)

.PHONY: up
up: ## the system in containers, built and waited for
	docker compose up --build --wait

.PHONY: down
down: ## the containers stopped and removed, with what they stored
	docker compose down --volumes --remove-orphans

.PHONY: docs
docs: $(STAMP) ## docs/asyncapi.json, made from the events
	@$(BIN)/python -m tools.asyncapi

.PHONY: requirements
requirements: $(STAMP) ## the hash-locked sets compiled anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -o requirements/services.txt libs/common/pyproject.toml services/*/pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --group dev -c requirements/services.txt -o requirements/dev.txt pyproject.toml libs/common/pyproject.toml services/*/pyproject.toml
