# Every target builds what it needs in .venv; nothing has to be activated. Stamp files make the second run quick.
# torch is installed first and alone by its pin: a later resolution would pull newer releases with several GB of CUDA packages.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= 2
OUT ?= out
# A photo that comes with a dependency's wheel: Rachel Michetti's cup of coffee, CC0.
COFFEE = "$$($(BIN)/python -c 'from importlib.resources import files; print(files("skimage") / "data/coffee.png")')"
SLOW = --option rise:masks=1000 --option lime:samples=300 --option kernel-shap:samples=300 --option score-cam:channels=128

export PIP_CONSTRAINT := constraints.txt
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test lint format docs tutorials figures clean

demo: $(VENV)/.demo
	@$(BIN)/relprop explain $(COFFEE) --against runner-up --smooth 1.5 --output $(OUT)/coffee.png

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir site

# Runs the tutorials and writes their notebooks, of which `make docs` makes pages.
tutorials: $(VENV)/.dev
	$(BIN)/python benchmarks/tutorials.py

# With DEIT=FILE, the weights of DeiT-tiny in timm's layout, also the pictures of a transformer. An option asks for its slow method.
TWO = --methods rap,lrp-gamma,abslrp,grad-cam --model efficientnet-lite0 --model timm:deit_tiny_patch16_224=$(DEIT)
figures: $(VENV)/.dev
	$(BIN)/relprop explain $(COFFEE) --against runner-up --smooth 1.5 --dpi 120 --output docs/images/coffee.webp
	$(BIN)/python benchmarks/pictures.py docs/images
	$(BIN)/relprop compare $(COFFEE) $(SLOW) --dpi 100 --output docs/images/methods.webp
	$(BIN)/python benchmarks/app.py $(COFFEE) --picture docs/images/app.webp
	$(BIN)/python benchmarks/pages.py docs
ifdef DEIT
	$(BIN)/relprop compare $(COFFEE) $(TWO) --smooth 1.5 --dpi 110 --output docs/images/two-models.webp
	$(BIN)/relprop compare $(COFFEE) --model timm:deit_tiny_patch16_224=$(DEIT) --dpi 85 --output docs/images/methods-transformer.webp
endif

clean:
	rm -rf $(VENV) site $(OUT) .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[demo,vision,huggingface,captum,data,quantus,evaluate,ray,app,peers,dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[docs]'
	@touch $@
