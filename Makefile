# `make help` lists the commands. DATA_DIR is the data folder: data/sample (the sample marketplace) unless given.
DATA_DIR ?= data/sample
PYTHON ?= python3
# handed to every notebook, e.g. PARAMETERS="-p image_weights imagenet"
PARAMETERS ?=

override DATA_DIR := $(DATA_DIR:%/=%)
BIN = .venv/bin
NOTEBOOKS = tabular_linear_regression image_classification neural_networks product_ranking
COPIES = $(NOTEBOOKS:%=$(DATA_DIR)/notebooks/%.ipynb)
TABLES = $(DATA_DIR)/products_table.json
CLEAN_TABLE = $(DATA_DIR)/products_table_clean.json
CLEAN_IMAGES = $(DATA_DIR)/clean_images_64/manifest.json
SAMPLE = data/sample/marketplace.db
MODULES = $(wildcard marketplace/*.py evaluation/*.py shallow/*.py models/*.py ranking/*.py)
ifeq ($(DATA_DIR),data/sample)
SOURCE = $(SAMPLE)
endif

.DELETE_ON_ERROR:
.PHONY: help run test sample notebooks lint clean FORCE

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(COPIES) ## set up, then data scripts and notebooks on DATA_DIR, and one table of results
	@$(BIN)/python -m evaluation.results --data-dir $(DATA_DIR)

test: .venv/test-installed ## set up, then ruff and pytest
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest

sample: $(SAMPLE) ## make the sample marketplace in data/sample

lint: .venv/test-installed ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

notebooks: $(CLEAN_TABLE) $(CLEAN_IMAGES) ## run the committed notebooks anew, in place, on the sample
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.timeout=-1 $(NOTEBOOKS:%=%.ipynb)

clean: ## remove everything made from DATA_DIR's raw data (the sample's raw data too), and caches
	rm -rf $(addprefix $(DATA_DIR)/,products_table.json images_table.json products_table_clean.json \
		main_categories.json duplicates.json *_report.json embeddings checkpoints results index notebooks \
		clean_images_*) $(if $(SOURCE),$(SAMPLE) data/sample/images)
	rm -rf .pytest_cache .ruff_cache .hypothesis $$(find . -name __pycache__ -not -path './.venv/*')

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	@touch $@

.venv/test-installed: .venv/installed requirements-test.txt requirements-cluster.txt
	$(BIN)/pip install --quiet --requirement requirements-test.txt
	@touch $@

$(SAMPLE): $(wildcard sample_marketplace/*.py) | .venv/installed
	$(BIN)/python make_sample_marketplace.py --force

# The data scripts know themselves what is already done, so they are always asked (FORCE); what they leave untouched
# makes nothing after them stale.
$(TABLES): $(SOURCE) FORCE | .venv/installed
	$(BIN)/python download_products_table.py --data-dir $(DATA_DIR)
	$(if $(SOURCE),,$(BIN)/python download_images.py --data-dir $(DATA_DIR))

$(CLEAN_TABLE): $(TABLES) clean_tabular_data.py $(wildcard marketplace/*.py)
	$(BIN)/python clean_tabular_data.py --data-dir $(DATA_DIR)

$(CLEAN_IMAGES): $(TABLES) FORCE
	$(BIN)/python clean_images.py --data-dir $(DATA_DIR)

# A notebook runs on a copy with its parameters; the copy takes its place only when it ran to the end.
$(DATA_DIR)/notebooks/%.ipynb: %.ipynb $(CLEAN_TABLE) $(CLEAN_IMAGES) $(MODULES) $(DATA_DIR)/notebooks/parameters
	@mkdir -p $(@D)
	@echo "running $<"
	@$(BIN)/papermill --cwd . $(if $(MAKE_TERMERR),,--no-progress-bar) --log-level WARNING -p data_dir $(DATA_DIR) $(PARAMETERS) $< $(@D)/running.ipynb
	@mv $(@D)/running.ipynb $@

$(DATA_DIR)/notebooks/product_ranking.ipynb: $(DATA_DIR)/notebooks/neural_networks.ipynb

# other PARAMETERS than those of the copies make the copies stale
$(DATA_DIR)/notebooks/parameters: FORCE
	@mkdir -p $(@D)
	@echo '$(PARAMETERS)' | cmp -s - $@ || echo '$(PARAMETERS)' > $@

FORCE:
