# The commands of this repository. `make help` prints the comment of each target.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export VERSION IMAGE_PREFIX
STAMP := $(VENV)/.requirements
# In CI a failed test runs once more, and the summary lists it as "RERUN": CI's machine pauses for seconds at a time.
RERUNS := $(if $(CI),--reruns 1 --rerun-show-tracebacks)

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt libs/operator/bin/cooee
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…") if sys.version_info < (3, 11) else None'
	@echo "installing the requirements of Cooee into $(VENV) (about a minute, only once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/python -c 'import pathlib, sysconfig; root = pathlib.Path.cwd(); folders = [root, *sorted(root.glob("libs/*/src")), *sorted(root.glob("services/*/src"))]; pathlib.Path(sysconfig.get_path("purelib"), "cooee.pth").write_text("".join(f"{p}\n" for p in folders))'
	@install -m 755 libs/operator/bin/cooee $(BIN)/cooee
	@touch $(STAMP)

.PHONY: setup
setup: $(STAMP) ## create the virtual environment from the hash-locked requirements

.PHONY: demo
demo: $(STAMP) ## import a spreadsheet and send to every contact on the embedded stack (KEEP=1: leave it running)
	@$(BIN)/python -m tools.demo $(if $(KEEP),--keep)

.PHONY: run
run: $(STAMP) ## run the embedded stack until Ctrl-C
	@exec $(BIN)/python -m tools.embedded

.PHONY: token
token: $(STAMP) ## print a session token for the running stack: ORG=org_demo USER=user_demo ROLE=admin
	@$(BIN)/python -m tools.token --org $(or $(ORG),org_demo) --user $(if $(filter command line,$(origin USER)),$(USER),user_demo) --role $(or $(ROLE),admin)

.PHONY: test
test: $(STAMP) ## run all tests that need no Docker, except the slow ones, on the embedded PostgreSQL and broker
	@$(BIN)/python -m pytest $(RERUNS) -n 2 --dist loadfile -m "not stack and not compose and not browser and not slow" $(ARGS)
	@$(BIN)/python -m pytest $(RERUNS) -n 2 --dist loadfile -m "stack and not slow" $(ARGS)

.PHONY: test-slow
test-slow: $(STAMP) ## run the slow tests, whose promises `make chaos` and `make backlogs` prove at full size
	@$(BIN)/python -m pytest -m "slow and not compose" $(ARGS)

.PHONY: coverage
coverage: $(STAMP) ## show which lines the tests without a whole stack reach
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not stack and not compose and not browser" --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: test-tools
test-tools: ## install kustomize and Prometheus, which some tests need, if it can be done here
	@tools/kustomize.sh
	@tools/prometheus.sh

.PHONY: fuzz
fuzz: $(STAMP) ## send random requests to the embedded stack (EXAMPLES=2000 for each operation)
	@EXAMPLES=$(or $(EXAMPLES),2000) $(BIN)/python -m pytest -m stack tests/contract/test_document.py -k random_requests $(ARGS)

.PHONY: test-browser
test-browser: $(STAMP) ## test the handset's page in Chromium (as root, Debian's package is installed)
	@tools/chromium.sh
	@$(BIN)/python -m pytest $(RERUNS) -n 2 --dist loadfile -m browser tests/browser $(ARGS)

.PHONY: test-containers
test-containers: $(STAMP) ## run the tests that depend on a server on PostgreSQL, Apache Kafka and Valkey in containers (ALL=1: all)
	@$(BIN)/python -m tools.containers $(BIN)/python -m pytest $(RERUNS) -m "$(if $(ALL),not stack and not compose,containers) and not embedded" libs services --ignore services/delivery/tests/providers $(ARGS)

.PHONY: e2e
e2e: $(STAMP) ## build the images, start docker-compose.yml, run the end-to-end tests against it (ALL=1: those of docker-compose.production.yml, too)
	@$(BIN)/python -m pytest $(RERUNS) -m "compose$(if $(ALL),, and not slow)" tests/e2e $(ARGS)

.PHONY: check
check: $(STAMP) ## check lint, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(wildcard libs/*/src) tools $(wildcard services/*/src)
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(STAMP) ## format the code and fix lint findings that have an automatic fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(STAMP) ## measure the embedded stack against yardsticks of the same run (ARGS="--only NAME … --quick --growth --help")
	@$(BIN)/python -m tools.bench $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## kill, freeze and disconnect processes under load, and compare all records: SEED=7 MINUTES=3 KAFKA=1 (ARGS="--json FILE --keep")
	@$(BIN)/python -m tools.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(KAFKA),--kafka) $(ARGS)

.PHONY: backlogs
backlogs: $(STAMP) ## measure how backlogs are drained: MINUTES=10 (of each outage) ROWS=1000000 (ARGS="--only NAME … --json FILE")
	@$(BIN)/python -m tools.backlogs $(if $(MINUTES),--minutes $(MINUTES)) $(if $(ROWS),--rows $(ROWS)) $(ARGS)

.PHONY: images
images: ## build the images of a release: VERSION=v1.2.3 IMAGE_PREFIX=registry.example/
	@tools/images.sh docker build --quiet

.PHONY: release-images
release-images: ## build the images with SBOM and provenance, push them and sign their digests (needs buildx, cosign)
	@tools/images.sh --sign docker buildx build --quiet --push --sbom=true --provenance=mode=max

.PHONY: release-notes
release-notes: ## print the subjects of the commits since the previous tag
	@tools/release_notes.sh $(VERSION)

.PHONY: up
up: ## build and start the system in containers, and wait until it is ready
	docker compose up --build --wait

.PHONY: down
down: ## stop and remove the containers and their volumes
	docker compose down --volumes --remove-orphans

.PHONY: docs
docs: $(STAMP) ## write docs/asyncapi.json from the events, and .env.example from the settings
	@$(BIN)/python -m tools.asyncapi
	@$(BIN)/python -m tools.env_example

.PHONY: requirements
requirements: $(STAMP) ## compile the hash-locked requirements again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -o requirements/services.txt libs/*/pyproject.toml services/*/pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --group dev -c requirements/services.txt -o requirements/dev.txt pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml
