# Every target is a sentence that a person may say; what it does lives in lab/, playbooks/ and site.yml.
INVENTORY ?= inventories/lab
DEBIAN    ?= 12 13
BIN       := .venv/bin
# Containers with an address of their own need root; nothing else does.
SUDO      := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env --set-home PYTHONDONTWRITEBYTECODE=1)
PLAY       = $(BIN)/ansible-playbook -i $(INVENTORY)
export ANSIBLE_LOCALHOST_WARNING = False

.DEFAULT_GOAL := help
.PHONY: help setup lock image lab secrets converge demo demo-down lint format unit verify test test-kvm kvm kvm-down clean

help:  ## This list
	@printf 'Grunnfjell: from blank hosts to finished jobs.\n\n'
	@awk -F ':.*## ' '/^#: / {printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## / {printf "  \033[1mmake %-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nYour own hosts: cp -r inventories/example inventories/NAME, edit it, make converge INVENTORY=inventories/NAME\n'

#: See it work
demo: lab secrets  ## Start five blank hosts, provision them, send real work through them
	@$(BIN)/python -m lab.demo --inventory $(INVENTORY)

demo-down: setup  ## Remove every host and network that the lab made
	@$(SUDO) $(PLAY) lab/destroy.yml

#: Step by step
setup:  ## Install the Python tools into .venv, from the hashed lock
	@lab/setup.sh

image: setup  ## Build the image of a blank host anew (DEBIAN="12 13")
	@$(SUDO) $(BIN)/python -m lab.image --force $(DEBIAN)

lab: setup  ## Start the hosts of inventories/lab that do not stand yet
	@$(SUDO) $(BIN)/python -m lab.image $(DEBIAN)
	@$(SUDO) $(PLAY) lab/create.yml

secrets: setup  ## Generate the secrets that INVENTORY lacks
	@$(PLAY) playbooks/secrets.yml

converge: secrets  ## Make the hosts of INVENTORY what it says
	@$(PLAY) site.yml

#: Judge it
test: setup  ## Everything: lint, unit, then the lab: demo and verify
	@$(BIN)/python -m lab.judge --inventory $(INVENTORY)

lint: setup  ## ansible-lint, yamllint, ruff
	@$(BIN)/python -m lab.judge lint

unit: setup  ## pytest, without a host
	@$(BIN)/python -m lab.judge unit

verify: setup  ## Ask the running services of INVENTORY whether they keep their promises
	@$(BIN)/python -m lab.judge verify --inventory $(INVENTORY)

# On machines whose kernel is their own; KEEP=1 leaves them standing. Its inventory is not the lab's.
test-kvm kvm: INVENTORY := $(if $(filter-out file,$(origin INVENTORY)),$(INVENTORY),inventories/kvm)
test-kvm: setup  ## Start virtual machines, run the site on them, reboot them, fill a disk
	@$(BIN)/python -m lab.judge kvm --inventory $(INVENTORY); status=$$?; \
	  [ -n "$(KEEP)" ] || $(MAKE) --no-print-directory kvm-down || status=1; exit $$status

kvm: setup  ## Start the virtual machines of inventories/kvm that do not stand yet
	@$(SUDO) $(PLAY) lab/kvm/create.yml
	@$(PLAY) playbooks/secrets.yml

kvm-down: setup  ## Remove every virtual machine that test-kvm made
	@$(SUDO) $(PLAY) lab/kvm/destroy.yml

#: Look after it
lock: setup  ## Resolve requirements.in into requirements.txt, with hashes
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate requirements.in -o requirements.txt

format: setup  ## Lay the Python code out
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## Remove the lab, its images and everything that was built
	@[ ! -d build/lab ] || $(MAKE) --no-print-directory demo-down
	@[ ! -d build/lab ] || $(SUDO) $(BIN)/python -m lab.image --remove
	@rm -rf build .venv .pytest_cache .ruff_cache .hypothesis .ansible
