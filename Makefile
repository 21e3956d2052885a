# Beyond Docker, Beyond Lambda. `make` alone lists the targets.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
NOTEBOOKS ?= notebooks
SOLUTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help book epub print test packages serve lab notebooks record bench learner lock picture clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: requirements.txt pyproject.toml tools/venv.sh
	@bash tools/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

book: $(VENV)/.installed ## build the book to _build/html, warnings as errors
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "The book: file://$(CURDIR)/_build/html/index.html (or make serve)"

epub: $(VENV)/.installed ## build the book for e-readers to _build/epub
	$(BIN)/jupyter-book build . -W -n --keep-going --builder custom --custom-builder epub
	@echo "The book: $(CURDIR)/_build/epub/beyond-docker-beyond-lambda.epub"

print: book ## print every page of text to _build/print (SOLUTIONS=1 unfolds)
	@bash tools/browser.sh $(BIN)/python
	$(BIN)/python tools/printed.py $(if $(SOLUTIONS),--solutions)

# The tests of the notebooks run each under nbval, as Binder would, and compare two more live runs as nbval does.
test: ## install what the tests need, then prove everything
	@$(MAKE) --no-print-directory -j 2 $(VENV)/.installed packages
	@bash tools/browser.sh $(BIN)/python
	$(BIN)/python tools/prove.py tests -n 2 --dist loadscope --no-loadscope-reorder --durations=40

# Debian's packages, the browser among them, are fetched while pip's are installed.
packages:
	@bash tools/packages.sh
	@bash tools/browser.sh >/dev/null 2>&1 || true

serve: book ## build, then serve the book on this machine (PORT=8000)
	@echo "The book: http://127.0.0.1:$(PORT)/index.html (stop with Ctrl-C)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(VENV)/.installed ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks

notebooks: $(VENV)/.installed ## execute the notebooks again and store their outputs
	$(BIN)/python tools/notebooks.py execute $(NOTEBOOKS)

record: $(VENV)/.installed ## measure again everything that is recorded, on this machine
	$(BIN)/python tools/notebooks.py record $(NOTEBOOKS)

bench: $(VENV)/.installed ## run the benchmarks beside their peers
	$(BIN)/python benchmarks/keep_alive.py
	$(BIN)/python benchmarks/scale.py

learner: $(VENV)/.installed ## write the notebooks without solutions to _build/learner
	$(BIN)/python tools/learner.py _build/learner

picture: book ## renew the picture of the book in the README
	$(BIN)/python tools/picture.py

lock: ## pin every version again (needs uv)
	bash tools/lock.sh

clean: ## remove everything that the targets made
	rm -rf _build .venv .cache .pytest_cache .hypothesis build src/beyondlab.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +
