# Every target sets up what it needs in .venv: a run, the versions of requirements.txt; tests and
# the like, those of requirements-dev.txt besides. Needed beforehand: Python >= 3.11.5 (another one than python3: make PYTHON=...),
# git, make and access to PyPI.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed

# What the recipes call comes from the environment, as it would after `source .venv/bin/activate`.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install develop reproduce smoke paper reduced mnist_8 kspace speech ablations sweep bench check peers weights test test-long test-gpu test-slurm test-peers verify lint docs reference figures-from-reference archive from-archive lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## set up .venv for runs (with the CPU build of torch, a smaller download on Linux: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make install)

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11, 5) or sys.exit("Python 3.11.5 or newer is needed, but $(PYTHON) is " + sys.version.split()[0] + ": name another one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	$(VENV)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

develop: $(DEVELOPED) ## set up .venv for tests, lint and docs, too

$(DEVELOPED): $(INSTALLED) requirements-dev.txt
	$(VENV)/bin/python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@

# $(call run,RESULTS,OPTIONS,REFERENCE): how long it takes here, if the kept run tells; run; report.
define run
	@! grep --quiet --no-messages calibration $(3)/tables/efficiency.csv || kahlervae forecast $(3)/tables/efficiency.csv || true
	snakemake --cores all $(2)
	snakemake $(2) --report $(1)/report.html
endef

reproduce: $(INSTALLED) ## run the whole workflow: tables and claims in results/, figures in figures/, results/report.html
	$(call run,results,,reference)

smoke: $(INSTALLED) ## run the whole workflow on a tiny configuration, into results/smoke/
	$(call run,results/smoke,--configfile config/smoke.yaml,reference/smoke)

paper: $(INSTALLED) ## run MNIST in pixels into results/paper/ (with Fashion-MNIST: OVERLAYS=config/fashion.yaml)
	$(call run,results/paper,--configfile config/paper.yaml $(OVERLAYS),reference/paper)

reduced: $(INSTALLED) ## the paper's run in half of its time: fewer seeds and epochs, into results/reduced/
	$(call run,results/reduced,--configfile config/paper.yaml config/reduced.yaml,reference/reduced)

mnist_8: $(INSTALLED) ## run MNIST at half the latent dimension, with decoders that are Kähler by construction, into results/mnist_8/
	$(call run,results/mnist_8,--configfile config/paper.yaml config/mnist_8.yaml,reference/mnist_8)

kspace: $(INSTALLED) ## run MNIST in k-space, with holomorphic decoders, into results/kspace/
	$(call run,results/kspace,--configfile config/paper.yaml config/mnist_8.yaml config/kspace.yaml,reference/kspace)

speech: $(INSTALLED) ## run spoken digits as complex spectrograms, into results/speech/ (downloads 12 MB unless the recordings are there)
	$(call run,results/speech,--configfile config/speech.yaml,reference/speech)

ablations: $(INSTALLED) ## take the method apart on the digits, and choose its settings there, into results/ablations/
	$(call run,results/ablations,--configfile config/ablations.yaml,reference/ablations)

sweep: $(INSTALLED) ## choose the settings of MNIST, into results/sweep/
	snakemake --cores all --configfile config/paper.yaml config/sweep.yaml -- choose figure_strengths

bench: $(INSTALLED) ## measure what metrics and training steps cost, on a machine with nothing else to do, into results/bench/
	snakemake --cores all --forcerun sampler_cost -- results/tables/sampler_cost.csv
	snakemake --cores all --configfile config/bench.yaml --forcerun cost step_cost -- results/bench/tables/cost.csv results/bench/tables/steps.csv results/bench/figures/cost.png results/bench/figures/cost.pdf

check: $(INSTALLED) ## hold the claims of the last `make reproduce` (RUN=paper, or reduced, mnist_8, kspace, speech, ablations, smoke: of that run) against reference/; fails if a verdict flips or an estimate is out of tolerance
	kahlervae check --reference $(REFERENCE) --results results/$(RUN)

$(VENV)-peers/.installed: $(INSTALLED) requirements-dev.txt comparison/requirements.txt
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --requirement comparison/requirements.txt
	$(VENV)-peers/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

peers: $(VENV)-peers/.installed ## compare with pythae on MNIST and with stochman on the digits, into results/peers/ (see comparison/README.md)
	snakemake --cores all --configfile config/paper.yaml -- results/paper/mnist/oracles/cnn.safetensors results/paper/mnist/oracles/mlp.safetensors
	snakemake --cores all -- results/digits/pixels/complex/seed=0/potential.safetensors
	$(VENV)-peers/bin/python comparison/pythae_peers.py
	$(VENV)-peers/bin/python comparison/stochman_geodesics.py

# What the weights are tried on: oracles, and potentials of models.
WEIGHED = $(addprefix results/paper/mnist/,$(foreach oracle,cnn mlp,oracles/$(oracle).safetensors) \
	$(foreach variant,complex kahler,$(foreach seed,0 1 2 3 4,pixels/$(variant)/seed=$(seed)/potential.safetensors)))

weights: $(INSTALLED) ## try weights on mixtures of latents, on models of `make paper`, into results/weights/ (see comparison/README.md)
	snakemake --cores all --configfile config/paper.yaml -- $(WEIGHED)
	python comparison/weights.py

test: $(DEVELOPED) ## run the tests, but for those that `make test-long`, `make test-gpu`, `make test-slurm` and `make test-peers` run
	pytest

test-long: $(DEVELOPED) ## run the tests that take long: further faults, and a whole run through Slurm
	pytest -m 'long and not slurm and not peers'
	pytest -m 'long and slurm and not peers' --numprocesses=0 -rs tests/slurm

test-gpu: $(DEVELOPED) ## hold the GPU of this machine against its CPU, and run the workflow on it
	pytest -m gpu --numprocesses=0 -rs tests/gpu

test-slurm: $(DEVELOPED) ## run the smoke workflow through a Slurm on this machine, installed if need be (Debian, root), that loses a node
	pytest -m 'slurm and not long and not peers' --numprocesses=0 -rs tests/slurm

test-peers: $(VENV)-peers/.installed ## run docs/pythae.md with pythae, and geodesics with stochman, in the environment of `make peers`
	$(VENV)-peers/bin/python -m pytest -m 'peers' --numprocesses=0 -rs tests/test_peers.py

verify: ## what has to hold for a release besides what `.ci/run` holds for every commit
	bash .ci/verify

lint: $(DEVELOPED) ## check style, types and the workflow
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint

docs: $(DEVELOPED) ## build the tutorial, the theory and the reference into docs/_build/html; warnings are errors
	sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html

# $(call keep,RESULTS,FIGURES,REFERENCE): the claims, tables and figures of a run, where there is
# one. Tables with a row for every epoch, probe, curve or difference at equal variation are large and
# seen in the figures and the claims.
keep = test ! -f $(1)/provenance.json || { \
	rm -rf $(3)/tables $(3)/figures && mkdir -p $(3)/tables $(3)/figures && \
	cp $(1)/claims.csv $(1)/provenance.json $(3)/ && \
	find $(1)/tables -name '*.csv' ! -name history.csv ! -name probes.csv ! -name pareto.csv ! -name hypervolume.csv -exec cp -t $(3)/tables {} + && \
	(cd $(2) && find . -name '*.png' ! -path './reference/*' -exec tar cf - {} +) | tar xf - -C $(3)/figures; }

reference: $(INSTALLED) ## keep claims, tables and figures of the last `make reproduce`, of the other runs, of `make sweep` and `make bench`, of those that there are, in reference/, README.md and docs/claims_table.md
	$(call keep,results,figures,reference)
	test ! -f results/provenance.json || kahlervae figure latent_slice results/digits/pixels/complex/seed=0/slice.safetensors results/digits/pixels/kahler/seed=0/slice.safetensors --out reference/overview.png
	$(call keep,results/paper,results/paper/figures,reference/paper)
	$(call keep,results/mnist_8,results/mnist_8/figures,reference/mnist_8)
	$(call keep,results/kspace,results/kspace/figures,reference/kspace)
	$(call keep,results/speech,results/speech/figures,reference/speech)
	$(call keep,results/ablations,results/ablations/figures,reference/ablations)
	test ! -f results/sweep/tables/strengths.csv || { mkdir -p reference/sweep && cp results/sweep/tables/strengths.csv reference/sweep/ && (cd results/sweep && find figures -name '*.png' -exec tar cf - {} +) | tar xf - -C reference/sweep; }
	test ! -f results/smoke/claims.csv || { mkdir -p reference/smoke/tables && cp results/smoke/claims.csv reference/smoke/ && cp results/smoke/tables/reconstruction.csv results/smoke/tables/efficiency.csv reference/smoke/tables/; }
	test ! -f results/bench/tables/steps.csv || cp results/bench/tables/cost.csv results/bench/tables/steps.csv results/bench/figures/cost.png reference/bench/
	for kind in peers weights; do test ! -d results/$$kind || { mkdir -p reference/$$kind && cp results/$$kind/*.csv reference/$$kind/; }; done
	python docs/claims_table.py

# The reference that a run is held against, or that figures are drawn from: RUN is empty for that of
# `make reproduce`, and reduced has that of paper. That of `make smoke` has no figures: what can be
# held against it is which claims there are and whether the identities hold.
REFERENCE = reference$(if $(RUN),/$(patsubst reduced,paper,$(RUN)))

RUNS = $(shell tail -n +2 $(REFERENCE)/tables/paths.csv | cut -d, -f1,2 | sort -u | tr , /)
# $(call drawn,FIGURE,TABLES): a figure of every data set in every representation.
drawn = kahlervae figure $(1) $(2) $(foreach run,$(RUNS),--of $(run) --out figures/$(REFERENCE)/$(run)/$(1).png)

figures-from-reference: $(INSTALLED) ## draw the figures that rest on tables from reference/tables into figures/reference/, without training (of another run: RUN=paper, or mnist_8, kspace, speech, ablations)
	$(call drawn,agreement_summary,$(REFERENCE)/tables/agreement.csv)
	$(call drawn,smoothness,$(REFERENCE)/tables/paths.csv)
	$(call drawn,pareto,$(addprefix $(REFERENCE)/tables/,samples.csv chosen.csv reference.csv))
	kahlervae figure cost $(REFERENCE)/tables/cost.csv --out figures/$(REFERENCE)/cost.png
	kahlervae figure claims $(REFERENCE)/claims.csv --out figures/$(REFERENCE)/claims.png
	kahlervae figure runtime $(REFERENCE)/tables/runtime.csv $(REFERENCE)/tables/efficiency.csv --out figures/$(REFERENCE)/runtime.png

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The same bytes, whenever and wherever they are packed.
PACK = tar --create --sort=name --mtime=@$$(git log -1 --format=%ct) --owner=0 --group=0 --numeric-owner

# What cannot be had from the last `make reproduce` but by training or timing: the files of the rule
# `kept`, and no other run's, which lie deeper.
KEPT = $(sort $(wildcard results/*/data.* results/*/oracles/* results/tables/cost.csv results/tables/steps.csv \
	$(addprefix results/*/*/*/seed=*/,model.safetensors history.csv potential.safetensors potentials.csv \
	samples.safetensors sampler_diagnostics.csv sampler_speed.csv mixtures.csv)))

archive: ## pack the committed code with reference results and, if there is a run of it, its models and samples, with checksums into dist/
	rm -rf dist
	mkdir dist
	git archive --prefix=kahlervae-$(VERSION)/ HEAD | tar --extract --directory=dist
	cd dist/kahlervae-$(VERSION) && find . -xtype f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum > ../SHA256SUMS
	mv dist/SHA256SUMS dist/kahlervae-$(VERSION)/
	$(PACK) --directory=dist kahlervae-$(VERSION) | gzip --no-name > dist/kahlervae-$(VERSION).tar.gz
	rm -rf dist/kahlervae-$(VERSION)
	test ! -f results/provenance.json || { sha256sum $(KEPT) > results/SHA256SUMS && \
	$(PACK) $(KEPT) results/SHA256SUMS | gzip --no-name > dist/kahlervae-$(VERSION)-models.tar.gz; }

ARCHIVE = dist/kahlervae-$(VERSION)-models.tar.gz

from-archive: $(INSTALLED) ## tables, claims, figures and report from the models and samples of `make archive`, without training (ARCHIVE=FILE)
	@test ! -f results/provenance.json || { echo "results/ holds a run: move it away, or call make clean."; exit 1; }
	tar --extract --gzip --file $(ARCHIVE)
	sha256sum --check --quiet results/SHA256SUMS
	snakemake --cores 1 --touch kept
	snakemake --cores all
	snakemake --report results/report.html

freeze = .lock/bin/python -m pip freeze --exclude kahlervae | sed 's/+cpu$$//'

lock: ## resolve pyproject.toml anew into requirements.txt, requirements-dev.txt and environment.yml
	rm -rf .lock
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet '.[workflow,figures]'
	$(freeze) > requirements.txt
	.lock/bin/python -m pip install --quiet --constraint requirements.txt '.[dev]'
	$(freeze) | grep --invert-match --line-regexp --fixed-strings --file requirements.txt > requirements-dev.txt
	{ sed '/- pip:/q' environment.yml; sed 's/^/      - /' requirements.txt; } > .lock/environment.yml
	mv .lock/environment.yml environment.yml
	rm -rf .lock

clean: ## delete what runs and tools have written, except .venv
	find results figures -mindepth 1 ! -name README.md -delete
	rm -rf dist docs/_build .snakemake .lock .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
