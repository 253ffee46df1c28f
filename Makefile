# From an empty machine with Python >= 3.10:  make demo   then   make test
#
# Works in the active virtual environment, or makes one here. Variables: PYTHON, the interpreter to
# make it with; LINE, `openmmlab` or the fork `onedl`; WORKERS, processes for the tests.
PYTHON ?= python3
LINE ?= openmmlab
WORKERS ?= 2

VENV := $(or $(VIRTUAL_ENV),$(if $(filter openmmlab,$(LINE)),.venv,.venv-$(LINE)))
PY := $(VENV)/bin/python
LOCK := requirements/$(LINE).lock.txt
PIP := $(PY) -m pip install --disable-pip-version-check

# Files that say what an environment holds; newer than the lock and setup.py, or made again.
INSTALLED := $(VENV)/.mmplugins-$(LINE)
TESTABLE := $(INSTALLED)-test
LINTABLE := $(VENV)/.mmplugins-ruff

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-browser lint format clean distclean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED)  ## set up: virtual environment and tested versions of everything

demo: $(INSTALLED)  ## set up, make data, train and test a detector: AP, pictures, curves
	$(PY) tools/demo.py

test: $(TESTABLE)  ## set up and run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) -m "not slow and not browser"

test-browser: $(TESTABLE)  ## set up and look at the HTML report in headless Chromium
	OMP_NUM_THREADS=1 $(PY) -m pytest -m browser

lint: $(LINTABLE)  ## check style with ruff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(LINTABLE)  ## let ruff mend style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove caches and build leftovers; data/ and work_dirs/ stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find configs hook mmplugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## also remove the virtual environments made here
	rm -rf .venv .venv-onedl

# One command for all extras: pip would not see that a second one unsettles the first.
$(INSTALLED): EXTRAS := $(LINE)
$(TESTABLE): EXTRAS := $(LINE),export,tensorboard,test
$(INSTALLED) $(TESTABLE): setup.py $(LOCK) | $(PY)
	$(PIP) --constraint $(LOCK) --editable ".[$(EXTRAS)]"
	@touch $(INSTALLED) $@

$(LINTABLE): $(LOCK) | $(PY)
	$(PIP) --quiet --constraint $(LOCK) ruff
	@touch $@

$(PY):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "$(PYTHON) is missing or older than 3.10: make ... PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
