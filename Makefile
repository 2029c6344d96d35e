# Every target is a sentence that a person may say; what it does lives in lab/, playbooks/ and site.yml.
INVENTORY ?= inventories/lab
DRILL_INVENTORY ?= inventories/drill
DEBIAN    ?= 12 13
BIN       := .venv/bin
# Containers with an address of their own need root; nothing else does.
SUDO      := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env --set-home PYTHONDONTWRITEBYTECODE=1)
PLAY       = $(BIN)/ansible-playbook -i $(INVENTORY)
export ANSIBLE_LOCALHOST_WARNING = False

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' $(MAKEFILE_LIST))

help:  ## This list
	@printf 'Grunnfjell: from blank hosts to finished jobs.\n\n'
	@awk -F ':.*## ' '/^#: / {printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## / {printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
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
	@$(SUDO) $(BIN)/python -m lab.access
	@$(SUDO) $(PLAY) lab/create.yml

secrets: setup  ## Generate the secrets that INVENTORY lacks
	@$(PLAY) playbooks/secrets.yml

converge: secrets  ## Make the hosts of INVENTORY what it says
	@$(PLAY) site.yml

accept: setup  ## Measure every host of INVENTORY anew: is it what was paid for (build/acceptance.html)
	@ANSIBLE_DISPLAY_OK_HOSTS=no $(PLAY) playbooks/accept.yml

#: Run it
plan: setup  ## What INVENTORY uses of what it has, how many more workers fit, what stops the next
	@$(PLAY) playbooks/plan.yml

status: setup  ## Can INVENTORY accept a 202 now, how long is the queue, what needs a look
	@ANSIBLE_DISPLAY_OK_HOSTS=no $(PLAY) playbooks/status.yml

residency: setup  ## Where INVENTORY's data rests and passes, and what was seen that contradicts it (build/residency-*.html)
	@ANSIBLE_DISPLAY_OK_HOSTS=no $(PLAY) playbooks/residency.yml

restore-drill: setup  ## Restore every backup of INVENTORY into a temporary directory and prove it (build/restore.json)
	@$(PLAY) playbooks/restore_drill.yml

backup-check: setup  ## What of INVENTORY must be kept where, and what is missing for a restore
	@ANSIBLE_DISPLAY_OK_HOSTS=no $(PLAY) playbooks/backup_check.yml

reconcile: setup  ## After a restore: list accepted jobs that have not ended, and with REPUBLISH=yes publish them again
	@$(PLAY) playbooks/reconcile.yml $(if $(REPUBLISH),-e reconcile_republish=true)

update: setup  ## Install updates that INVENTORY's services wait for, and reboot hosts that must: one host after another (docs/updates.md)
	@$(PLAY) playbooks/update.yml

run: export RUN_COMMAND := $(CMD)
run: setup  ## Run CMD="python manage.py …" on a host of the application, in its environment (APP=name, if there are several)
	@$(PLAY) playbooks/run.yml $(if $(APP),-e run_application=$(APP))

console: export RUN_COMMAND := $(or $(CMD),python)
console: setup  ## A session on a host of the application, in its environment: CMD="python manage.py shell" (APP=name, if there are several)
	@$(PLAY) playbooks/run.yml -e run_console=$(CURDIR)/build/console $(if $(APP),-e run_application=$(APP))
	@sh build/console; status=$$?; rm build/console; exit $$status

dead-letters: setup  ## List the jobs of INVENTORY that failed too often, with their reason
	@ANSIBLE_DISPLAY_OK_HOSTS=no $(PLAY) playbooks/dead_letters.yml

replay: setup  ## Send dead letters back to their queues: ID=a,b or TASK=name or ALL=yes
	@$(PLAY) playbooks/dead_letters.yml -e dead_letters_action=replay \
	  $(if $(ID),-e dead_letters_ids=$(ID)) $(if $(TASK),-e dead_letters_task=$(TASK)) $(if $(ALL),-e dead_letters_all=true)

queue-type: setup  ## Make the classic queue QUEUE of an application a quorum queue, without losing a job (APP=name, if there are several)
	@$(PLAY) playbooks/queue_type.yml -e queue_type_queue=$(QUEUE) $(if $(APP),-e queue_type_application=$(APP))

# SECRET=a,b changes these, APPLICATION=name those of one application.
rotate: setup  ## Change every secret of INVENTORY at work, without a lost job (docs/secrets.md)
	@$(PLAY) playbooks/rotate.yml $(if $(SECRET),-e rotate=$(SECRET)) $(if $(APPLICATION),-e rotate_application=$(APPLICATION))

#: Judge it
# DRILL_INVENTORY=inventories/drill-cloud hurts a fleet of cloud images. Their sudo asks for a password, which `make lab` generates.
ifneq ($(findstring cloud,$(DRILL_INVENTORY)),)
drill: export ANSIBLE_BECOME_PASSWORD_FILE := $(CURDIR)/build/lab/become-password
endif
drill: setup  ## Hurt a fleet of its own at work in every way, prove that it lost nothing (build/drill.html)
	@$(MAKE) --no-print-directory lab secrets INVENTORY=$(DRILL_INVENTORY)
	@$(SUDO) $(BIN)/python -m lab.drill --inventory $(DRILL_INVENTORY) $(DRILL)

drill-ha: DRILL_INVENTORY := inventories/drill-compact
drill-ha: override DRILL += --members
drill-ha: drill  ## Hurt three core hosts with broker, database and etcd: leaders, majorities, a host for ever (build/drill.html)

# KEEP=1 leaves its hosts standing.
drill-herd: setup  ## Wake 240 workers upon 20,000 jobs, with PgBouncer and past it (build/herd.html)
	@$(MAKE) --no-print-directory lab secrets INVENTORY=inventories/herd
	@$(SUDO) $(BIN)/python -m lab.herd $(HERD); status=$$?; \
	  [ -n "$(KEEP)" ] || $(SUDO) $(BIN)/ansible-playbook -i inventories/herd lab/remove.yml || status=1; exit $$status

test: setup  ## Lint, unit, two or three roles by Molecule, then the lab: demo, verify and a short drill
	@$(BIN)/python -m lab.ci --inventory $(INVENTORY)

lint: setup  ## ansible-lint, yamllint, ruff
	@$(BIN)/python -m lab.ci lint

unit: setup  ## pytest with every wrong inventory, without a host
	@$(BIN)/pytest -q

molecule: setup  ## Every role on a Debian 13 and a Debian 12 host (one: `.venv/bin/molecule test -s ROLE`)
	@$(SUDO) $(BIN)/python -m lab.ci molecule

test-clusters: setup  ## Three brokers, databases and members of etcd: killed, lost, replaced, grown, on Debian 13 and 12
	@$(SUDO) $(BIN)/python -m lab.ci clusters

verify: setup  ## Ask the running services of INVENTORY whether they keep their promises
	@$(BIN)/python -m lab.ci verify --inventory $(INVENTORY)

proof: setup  ## Run TARGET=drill (or another) and record its result in docs/proof.json and README.md; without it, the table
	@$(BIN)/python -m lab.proof $(TARGET)

promises: setup  ## List what the kit promises and which command asks for it (ROLE=rabbitmq: one role)
	@$(BIN)/python -m lab.promises $(ROLE)

exposure: setup  ## Scan every host of the lab from everywhere, against the declared flows (build/exposure.html)
	@$(SUDO) $(BIN)/python -m lab.exposure --inventory $(INVENTORY)

test-operations: setup  ## Status, dead letters, deploys, rollbacks, scaling out and in, under load, on the lab that stands
	@$(BIN)/python -m lab.ci operations

audit: setup  ## Run ssh-audit, sslyze and lynis against the hosts of INVENTORY, and search Ansible's output for secrets
	@$(BIN)/python -m lab.audit --inventory $(INVENTORY) $(AUDIT)

# The name before 1.0; goes with 2.0.
judges:
	@echo 'make judges is called make audit now, and its options AUDIT="…".' >&2
	@$(MAKE) --no-print-directory audit AUDIT="$(JUDGES)"

mutants: setup  ## Break each role on purpose and see its tests notice (build/mutants.json)
	@$(SUDO) $(BIN)/python -m lab.mutants $(ROLE)

# CUTS=5 kills five runs instead of twenty; KEEP=1 leaves the hosts running. Their sudo asks for a password, which `make lab` generates.
test-cloud: INVENTORY := $(if $(filter-out file,$(origin INVENTORY)),$(INVENTORY),inventories/cloud)
test-cloud: export ANSIBLE_BECOME_PASSWORD_FILE := $(CURDIR)/build/lab/become-password
test-cloud: setup  ## Start hosts with the habits of cloud images, provision them through a jump host, kill runs at 20 tasks
	@$(BIN)/python -m lab.ci cloud --inventory $(INVENTORY); status=$$?; \
	  [ -n "$(KEEP)" ] || $(SUDO) $(PLAY) lab/remove.yml || status=1; exit $$status

# APPS="--only pretix" or "--no-converge"; KEEP=1 leaves its hosts running.
test-apps: setup  ## Deploy pretix and Mayan EDMS as they come from the package index, hurt their fleet, count their work (build/apps.json)
	@$(MAKE) --no-print-directory lab secrets INVENTORY=inventories/apps
	@$(SUDO) $(BIN)/python -m lab.apps $(APPS); status=$$?; \
	  [ -n "$(KEEP)" ] || $(SUDO) $(BIN)/ansible-playbook -i inventories/apps lab/apps/remove.yml || status=1; exit $$status

# On machines whose kernel is their own; KEEP=1 leaves them standing. Its inventory is not the lab's.
test-kvm kvm: INVENTORY := $(if $(filter-out file,$(origin INVENTORY)),$(INVENTORY),inventories/kvm)
test-kvm: setup  ## Start virtual machines, run the site on them, reboot them, fill a disk
	@$(BIN)/python -m lab.ci kvm --inventory $(INVENTORY); status=$$?; \
	  [ -n "$(KEEP)" ] || $(MAKE) --no-print-directory kvm-down || status=1; exit $$status

kvm: setup  ## Start the virtual machines of inventories/kvm that do not stand yet
	@$(SUDO) $(PLAY) lab/kvm/create.yml
	@$(PLAY) playbooks/secrets.yml

kvm-down: setup  ## Remove every virtual machine that test-kvm made
	@$(SUDO) $(PLAY) lab/kvm/destroy.yml

#: Look after it
lock: setup  ## Resolve each requirements.in into its requirements.txt, with hashes
	@for of in . lab/audit; do (cd $$of && $(CURDIR)/$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate requirements.in -o requirements.txt); done

release: setup  ## Build the collection's artifact of the last commit, the same bytes each time (build/*.tar.gz)
	@$(BIN)/python -m lab.release

docs: setup  ## Write the roles' READMEs again, from their argument specs
	@$(BIN)/python -m lab.readmes

format: setup  ## Lay the Python code out
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## Remove the lab, its images and everything that was built
	@[ ! -d build/lab ] || $(MAKE) --no-print-directory demo-down
	@[ ! -d build/lab ] || $(SUDO) $(BIN)/python -m lab.image --remove
	@rm -rf build .venv .pytest_cache .ruff_cache .hypothesis .ansible
