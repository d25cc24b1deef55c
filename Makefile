# make demo: the main job on a small server. make test: everything. Both make their own virtual environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench wheel clean

demo: $(READY)
	$(BIN)/python -m tests.demo

test: lint $(READY)
	$(BIN)/python -m tests.everything

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

# Against a private Dovecot, with the peers installed from Debian: apt-get install dovecot-imapd dovecot-pop3d isync mpop
bench: $(READY)
	$(BIN)/python -m tests.bench

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

$(READY): pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . $$($(BIN)/python tests/requirements.py)
	touch $@

clean:
	rm -rf $(VENV) dist build
