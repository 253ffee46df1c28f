# From an empty machine with Python >= 3.10:  make demo   then   make test
#
# Works in the active virtual environment, or makes one here. Variables: PYTHON, the interpreter to
# make it with; LINE, `openmmlab` or the fork `onedl`; WORKERS, processes for the tests; TORCH, a
# version of torch in place of the tested one.
PYTHON ?= python3
LINE ?= openmmlab
WORKERS ?= 2

VENV := $(or $(VIRTUAL_ENV),$(if $(filter openmmlab,$(LINE)),.venv,.venv-$(LINE)))
PY := $(VENV)/bin/python
LOCK := requirements/$(LINE).lock.txt
PIP := $(PY) -m pip install --disable-pip-version-check

# Files that say what an environment holds; newer than the lock and setup.py, or made again.
INSTALLED := $(VENV)/.mmplugins-$(LINE)
DEMOABLE := $(INSTALLED)-demo
TESTABLE := $(INSTALLED)-test
LINTABLE := $(VENV)/.mmplugins-ruff
TYPABLE := $(INSTALLED)-mypy
SITEABLE := $(INSTALLED)-docs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all test-browser coverage lint format types docs clean distclean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED)  ## set up: virtual environment and tested versions of everything

demo: $(DEMOABLE)  ## set up, make data, train, test and export a detector: AP, pictures, ONNX
	$(PY) tools/demo.py

# A file's tests stay in one process, so that what they share is made once.
TEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile

test: $(TESTABLE)  ## set up and run the tests, without the long ones
	$(TEST) -m "not slow and not browser"

test-all: $(TESTABLE)  ## set up and run the tests, the long ones too
	$(TEST) -m "not browser"

coverage: $(TESTABLE)  ## run the tests of make test; which lines they reach, in htmlcov/
	$(TEST) -m "not slow and not browser" --cov --cov-report term:skip-covered --cov-report html

test-browser: $(TESTABLE) $(SITEABLE)  ## set up; report and site in headless Chromium
	OMP_NUM_THREADS=1 $(PY) -m pytest -m browser

lint: $(LINTABLE)  ## check style with ruff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(LINTABLE)  ## let ruff correct style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(TYPABLE)  ## check types with mypy
	$(PY) -m mypy

docs: $(SITEABLE)  ## build the site into site/; a warning or a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

clean:  ## remove caches and build leftovers; data/ and work_dirs/ stay
	rm -rf build dist site htmlcov .coverage *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find configs hook mmplugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## also remove the virtual environments made here
	rm -rf .venv .venv-onedl

# One command for all extras: pip would not see that a second one unsettles the first.
$(INSTALLED): EXTRAS := $(LINE)
$(DEMOABLE): EXTRAS := $(LINE),export
$(TESTABLE): EXTRAS := $(LINE),export,tensorboard,test
$(INSTALLED) $(DEMOABLE) $(TESTABLE): setup.py $(LOCK) | $(PY)
	$(PIP) --constraint $(LOCK) --editable ".[$(EXTRAS)]"
	$(if $(TORCH),$(PIP) "torch==$(TORCH)" torchvision)
	@touch $(INSTALLED) $@

# Style, types and the site are read from the sources: they need their tools alone.
$(LINTABLE): WITH := ruff
$(TYPABLE): WITH := mypy types-PyYAML
$(SITEABLE): WITH := mkdocs-material "mkdocstrings[python]"
$(LINTABLE) $(TYPABLE) $(SITEABLE): $(LOCK) | $(PY)
	$(PIP) --quiet --constraint $(LOCK) $(WITH)
	@touch $@

$(PY):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "$(PYTHON) is missing or older than 3.10: make ... PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
