# Everything a contributor runs. `make help` lists it. Tools and lab images lie in a cache outside the checkout.
SHELL := /bin/bash -euo pipefail
CACHE := $(or $(KVM_PASSTHROUGH_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kvm.passthrough)
# ansible-test and the imports of the tests want the collection below ansible_collections/; the checkout may lie anywhere.
ROOT := $(CACHE)/trees/$(shell pwd | md5sum | cut -c1-8)
TREE := $(ROOT)/ansible_collections/kvm/passthrough
VENV := $(CACHE)/venv-$(shell md5sum tests/requirements.txt | cut -c1-8)
LAB := $(CURDIR)/tests/lab/lab
export KVM_PASSTHROUGH_CACHE := $(CACHE)
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(ROOT)
export ANSIBLE_HOME := $(CACHE)/ansible

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | column -ts $$'\t'

.PHONY: demo
demo: tree ## The main job in the lab: a card goes from a host to a guest (installs what it needs)
	$(LAB) run --name demo -- tests/lab/demo

.PHONY: assess
assess: tree ## What can go from this very machine to a guest, and why not: prints where the report is
	ansible-playbook kvm.passthrough.assess -i localhost, -c local -e '{"ansible_python_interpreter": "{{ ansible_playbook_python }}"}'

.PHONY: test
test: lint sanity units page lab ## Everything that must pass (installs what it needs)

.PHONY: setup
setup: ## Install what the other targets need: packages (as root, on Debian or Ubuntu) and a virtual environment
	@tests/setup $(VENV)

.PHONY: tree
tree: setup
	@mkdir -p $(TREE) && find $(TREE) -mindepth 1 -delete
	@git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null | tar -cT - | tar -xC $(TREE)

.PHONY: lint
lint: tree ## Formatting, types, Ansible rules, changelog
	cd $(TREE) && ruff check . && ruff format --check . && yamllint --strict . && ansible-lint --offline
	cd $(ROOT) && mypy --config-file $(TREE)/pyproject.toml -p ansible_collections.kvm.passthrough.plugins
	cd $(TREE) && mypy tests/lab/*.py && antsibull-changelog lint && antsibull-docs lint-collection-docs --plugin-docs .

.PHONY: sanity
sanity: tree ## ansible-test sanity, without a container
	@mkdir -p ~/.ansible/test/cache && cp tests/get_pip.py ~/.ansible/test/cache/get_pip_24_2.py
	cd $(TREE) && ansible-test sanity --requirements --python $$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

.PHONY: units
units: tree ## Unit tests
	cd $(TREE) && PYTHONPATH=$(ROOT) pytest -q tests/unit

.PHONY: page
page: tree ## The report in a browser without a screen
	@command -v chromedriver >/dev/null || tests/setup $(VENV) chromium chromium-driver
	cd $(TREE) && PYTHONPATH=$(ROOT) pytest -q tests/page

.PHONY: lab
lab: verdict ## A real host in software: verdict; guests that follow the inventory, reboot, release (Molecule)
	cd $(TREE) && KVM_PASSTHROUGH_LAB=molecule tests/scenario default

.PHONY: guests
guests: tree ## The same with more guests and what takes long: cloud-init, killed runs, attempts to lose a disk (Molecule)
	cd $(TREE) && KVM_PASSTHROUGH_LAB=molecule tests/scenario guests

SERVICES := isdn dvbt article fax
.PHONY: services
services: tree ## Guests with a service, on cards made of software: all, or those of SERVICES="isdn dvbt article fax" (Molecule)
	cd $(TREE) && for each in $(SERVICES); do KVM_PASSTHROUGH_LAB=molecule tests/scenario $$each; done

.PHONY: verdict
verdict: tree ## Two hosts in software: the verdict, and what happens to those who do not believe it (Molecule)
	cd $(TREE) && KVM_PASSTHROUGH_LAB=molecule tests/scenario verdict

.PHONY: bench
bench: tree ## What the collection promises about its speed, as ratios in one run
	@PYTHONPATH=$(ROOT) python $(TREE)/tests/bench/bench.py $(CACHE)/bench-rows.csv

.PHONY: docs
docs: tree ## Write the pages that are made from the code
	PYTHONPATH=$(ROOT) python $(TREE)/tests/docs/checks.py > docs/docsite/rst/reference_checks.rst.new
	mv docs/docsite/rst/reference_checks.rst.new docs/docsite/rst/reference_checks.rst
	PYTHONPATH=$(ROOT) python $(TREE)/tests/docs/cards.py > docs/docsite/rst/reference_cards.rst.new
	mv docs/docsite/rst/reference_cards.rst.new docs/docsite/rst/reference_cards.rst

.PHONY: build
build: setup ## The collection as a tar file, as Galaxy takes it
	ansible-galaxy collection build --force --output-path $(CACHE)/build .

.PHONY: clean
clean: ## Stop all labs and remove the cache
	$(LAB) down --all
	rm -rf $(CACHE)
