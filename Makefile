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
