# make lab        open the lessons in JupyterLab
# make test       every test, and every notebook from top to bottom
# make check      the tests without the lessons: about four minutes on two cores
# make full       what needs the full data sets, where DIFFUSION_DATA names them
# make browser    the notebooks and their sliders in JupyterLab and headless Chromium (Debian: apt install chromium)
# make site       the website of the series, into website/build/html; it needs Node.js with npm
# make site-test  every page of it in headless Chromium, and the laboratory against Python
# make notebooks  write the outputs of the notebooks anew
# make student    write the students' copies anew
# make coursework install what grading needs
# make address    with URL=https://github.com/owner/name: write the public address everywhere; URL= takes it out
# make lint       the linter and the formatter, notebooks included
#
# The first of them builds the environment in $(VENV): some minutes, and on Linux about 6 GB.
# Another interpreter, folder or torch:
#   make lab PYTHON=python3.12 VENV=.venv312 TORCH="torch==2.11.* torchvision==0.26.*"

PYTHON ?= python3
VENV ?= .venv
TORCH ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
COURSEWORK := $(VENV)/.coursework
SITE := $(VENV)/.site
PANELS := formgrader validate_assignment assignment_list course_list

.PHONY: lab test check full browser site site-test notebooks student coursework address lint

# Jupyter says where it serves in a warning; what it says below that would stand after it. Root is somebody's own
# container or cloud machine: Jupyter's refusal is about shared ones.
lab: $(READY)
	$(BIN)/jupyter lab notebooks --log-level=WARN --allow-root

test: check
	$(BIN)/python -m pytest notebooks --numprocesses=auto --maxprocesses=2 --dist=loadfile

check: $(COURSEWORK)
	$(BIN)/python -m pytest tests --numprocesses=auto --dist=loadfile

full: $(READY)
	$(BIN)/python -m pytest tests -m full

browser: $(READY)
	$(BIN)/python -m pip install --quiet playwright
	DIFFUSION_BROWSER=1 $(BIN)/python -m pytest -s -rs tests/browser

site: $(SITE)
	$(BIN)/python website/build.py

site-test: site
	$(BIN)/python -m pip install --quiet playwright
	DIFFUSION_SITE=1 $(BIN)/python -m pytest -s -rs tests/website

notebooks: $(READY)
	$(BIN)/python tools/execute.py

student: $(COURSEWORK)
	$(BIN)/python tools/student.py

coursework: $(COURSEWORK)

address: $(READY)
	$(if $(filter undefined,$(origin URL)),$(error make address URL=https://github.com/owner/name, or URL= to take the address out))
	$(BIN)/python tools/address.py '$(URL)'

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# Debian's python3 comes without what a virtual environment needs, so that is asked first.
$(READY): requirements.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) not found: install Python 3.10 or newer, or name yours: PYTHON=..."; exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 10))" || { echo "$(PYTHON) is too old: install Python 3.10 or newer, or name yours: PYTHON=..."; exit 1; }
	@"$(PYTHON)" -c "import ensurepip, venv" 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: sudo apt install python3-venv"; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	$(if $(TORCH),$(BIN)/python -m pip install $(TORCH))
	$(BIN)/python -m pip install -r requirements.txt
	@touch $@

# What pages load comes from npm at the versions and checksums of the lock file; no script of a package is run.
$(SITE): $(READY) website/package-lock.json
	@command -v npm >/dev/null || { echo "npm not found: install Node.js 20 or newer"; exit 1; }
	$(BIN)/python -m pip install -e ".[site]"
	npm ci --prefix website --ignore-scripts
	@touch $@

# nbgrader is a library for the tools here. Its menu and its panel would stand in every student's JupyterLab.
$(COURSEWORK): $(READY)
	$(BIN)/python -m pip install -e ".[coursework]"
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyter/nbgrader
	$(BIN)/jupyter-server extension disable --sys-prefix $(addprefix nbgrader.server_extensions.,$(PANELS))
	@touch $@
