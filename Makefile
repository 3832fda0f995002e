# `make help` lists the commands. DATA_DIR is the data folder: data/sample (the sample marketplace) unless given.
DATA_DIR ?= data/sample
PYTHON ?= python3
# passed to every notebook, e.g. PARAMETERS="-p seed 8"
PARAMETERS ?=
# what ImageModel starts from: ImageNet weights if they can be had (auto), none, imagenet, or a file
IMAGE_WEIGHTS ?= auto
export IMAGE_WEIGHTS
# waiting threads soon sleep instead of spinning, which slows training beside another busy process
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 1000
# glibc keeps the memory of a training step for the next one (python -m benchmarks.threads measures both)
export MALLOC_MMAP_THRESHOLD_ ?= 4000000000
export MALLOC_TRIM_THRESHOLD_ ?= 16000000000

# make and the shell would split at other characters, or read them in a way of their own
FIT := $(shell LC_ALL=C; case '$(subst ','\'',$(value DATA_DIR))' in (''|/|//*|-*|*[!A-Za-z0-9_./+@-]*);; (*) echo fit;; esac)
ifneq ($(words $(value DATA_DIR)) $(FIT),1 fit)
$(error DATA_DIR is '$(value DATA_DIR)': give a path of a-z A-Z 0-9 _./+@- alone, or run the scripts, which take any)
endif
override DATA_DIR := $(DATA_DIR:%/=%)
BIN = .venv/bin
# one thread a process, since the tests already run in one process a core; a test file runs in one process, so that
# what its tests share is made once, and the slow files start first (tests/conftest.py orders them)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder
NOTEBOOKS = tabular_linear_regression image_classification neural_networks product_ranking
# a terminal gets a progress bar, a pipe the output of the cells
PROGRESS = $(if $(MAKE_TERMERR),--log-level WARNING,--no-progress-bar --log-output)
COPIES = $(NOTEBOOKS:%=$(DATA_DIR)/notebooks/%.ipynb)
TABLES = $(DATA_DIR)/products_table.json
CLEAN_TABLE = $(DATA_DIR)/products_table_clean.json
CLEAN_IMAGES = $(DATA_DIR)/clean_images_64/manifest.json
SAMPLE = data/sample/marketplace.db
# what `make clean` removes: the tables last, since a folder without them is not touched
MADE = embeddings checkpoints results index notebooks clean_images_64 clean_images_64_report.json clean_images_224 \
	clean_images_224_report.json clean_tabular_report.json download_report.json download_images_report.json \
	duplicates.json main_categories.json images_table.json products_table_clean.json products_table.json
ifeq ($(DATA_DIR),data/sample)
SOURCE = $(SAMPLE)
MADE += images marketplace.db
endif

.DELETE_ON_ERROR:
.PHONY: help run expect serve test test-quick test-browser lint sample notebooks tables lock clean FORCE

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: expect $(COPIES) ## set up, run data scripts and notebooks on DATA_DIR, print the tables of results
	@$(BIN)/python -m evaluation.tables --data-dir $(DATA_DIR)

expect:
	@grep -qsE '(avx512_bf16|amx_bf16| bf16)' /proc/cpuinfo \
		&& echo "this processor has bfloat16: the sample takes about 14 minutes on two cores, after the installation" \
		|| echo "this processor has no bfloat16: the sample takes about 30 minutes on two cores, after the installation"

serve: .venv/serve-installed ## set up, then serve DATA_DIR as a page and an API on this machine
	@$(BIN)/python serve.py --data-dir $(DATA_DIR)

test test-browser notebooks: IMAGE_WEIGHTS = none

test: .venv/test-installed ## set up, then ruff, mypy and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST)

test-quick: .venv/test-installed ## only the test files that take seconds
	$(PYTEST) -m "not slow"

test-browser: .venv/test-installed ## drive Chromium over the page of serve.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

lint: .venv/test-installed ## mend what ruff can mend, then mypy
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/mypy

sample: $(SAMPLE) ## make the sample marketplace in data/sample

notebooks: $(CLEAN_TABLE) $(CLEAN_IMAGES) ## run the committed notebooks anew, in place, on the sample
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.timeout=-1 --KernelManager.transport=ipc --KernelManager.ip=$(DATA_DIR)/kernel \
		$(NOTEBOOKS:%=%.ipynb)

tables: .venv/installed ## write the tables and the chart of README and docs from docs/results
	$(BIN)/python -m evaluation.tables --publish

lock: .venv/pyvenv.cfg ## renew requirements.lock from the requirements files
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate \
		--custom-compile-command "make lock" requirements-test.txt --output-file requirements.lock

clean: ## remove everything made from DATA_DIR's raw data (the sample's raw data too), and caches
	@for table in products_table.json products_table_clean.json marketplace.db; do \
		if [ -e $(DATA_DIR)/$$table ]; then exec rm -rf $(addprefix $(DATA_DIR)/,$(MADE)); fi; \
	done; echo "nothing is deleted in $(DATA_DIR): it holds no tables"
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./.venv -prune -o -path ./data -prune -o -name __pycache__ -prune -exec rm -rf {} +

# The environment is built anew where its Python or pip does not run, since it was upgraded, removed or half built,
# and where the folder was moved or copied, for programs in .venv/bin name the old one.
USABLE := $(shell exec 2>/dev/null; . .venv/bin/activate && [ "$$VIRTUAL_ENV" -ef .venv ] && $(BIN)/python -m pip --version)
ifeq ($(USABLE),)
.venv/pyvenv.cfg: FORCE
endif
.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv

# The project itself is installed as a link to this folder, so that a notebook or script finds the packages from anywhere.
.venv/installed: requirements.txt requirements.lock pyproject.toml .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --requirement requirements.txt --editable .
	@touch $@

.venv/serve-installed: .venv/installed requirements-serve.txt
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --requirement requirements-serve.txt
	@touch $@

.venv/test-installed: .venv/installed requirements-test.txt requirements-cluster.txt requirements-serve.txt
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --requirement requirements-test.txt
	@touch $@

$(SAMPLE): make_sample_marketplace.py $(wildcard sample_marketplace/*.py) | .venv/installed
	$(BIN)/python make_sample_marketplace.py --force

# Each data script skips finished work, so they always run (FORCE); what they leave untouched makes nothing stale.
$(TABLES): $(SOURCE) FORCE | .venv/installed
	$(BIN)/python download_products_table.py --data-dir $(DATA_DIR)
	$(if $(SOURCE),,$(BIN)/python download_images.py --data-dir $(DATA_DIR))

$(CLEAN_TABLE): $(TABLES) clean_tabular_data.py $(wildcard marketplace/*.py marketplace/*.csv)
	$(BIN)/python clean_tabular_data.py --data-dir $(DATA_DIR)

$(CLEAN_IMAGES): $(TABLES) FORCE
	$(BIN)/python clean_images.py --data-dir $(DATA_DIR)

# A notebook runs on a copy with its parameters; the copy takes its place only when it ran to the end.
$(DATA_DIR)/notebooks/%.ipynb: %.ipynb $(CLEAN_TABLE) $(CLEAN_IMAGES) $(DATA_DIR)/notebooks/parameters
	@mkdir -p $(@D)
	@echo "running $<"
	@$(BIN)/python -m evaluation.run_notebook $< $(@D)/running_$*.ipynb --cwd . $(PROGRESS) -p data_dir $(DATA_DIR) $(PARAMETERS)
	@mv $(@D)/running_$*.ipynb $@

# what a notebook imports, and whose checkpoints or results it reads
$(COPIES): $(wildcard marketplace/*.py evaluation/*.py shallow/*.py)
$(DATA_DIR)/notebooks/neural_networks.ipynb: $(wildcard models/*.py ranking/*.py) \
	$(DATA_DIR)/notebooks/image_classification.ipynb $(DATA_DIR)/notebooks/image_weights
$(DATA_DIR)/notebooks/product_ranking.ipynb: $(wildcard ranking/*.py) $(DATA_DIR)/notebooks/neural_networks.ipynb

# other PARAMETERS or IMAGE_WEIGHTS than those of the copies make the copies stale
$(DATA_DIR)/notebooks/parameters: RECORDED = $(PARAMETERS)
$(DATA_DIR)/notebooks/image_weights: RECORDED = $(IMAGE_WEIGHTS)
$(DATA_DIR)/notebooks/parameters $(DATA_DIR)/notebooks/image_weights: FORCE
	@mkdir -p $(@D)
	@echo '$(RECORDED)' | cmp -s - $@ || echo '$(RECORDED)' > $@

FORCE:
