# Everything a person or a machine does with this repository. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help

export PYTHONDONTWRITEBYTECODE := 1

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where the tests write every payload that the bot sent, as lines of JSON.
PAYLOADS := $(TARGET)/payloads
CHECKED := $(PAYLOADS) manifest/slack.yaml manifest/teams/manifest.json
# What the plays share is none.
PLAYS := $(filter-out tests/browser/harness.mjs,$(wildcard tests/browser/*.mjs))
# Tests wait more than they compute: for what a server, a browser or a clock does.
export RUST_TEST_THREADS ?= 6

# The PostgreSQL majors that `make test` asks, and those of `make compat`. Which is which for npm: tests/servers/package.json.
MAJORS := 13 15 18
ALL_MAJORS := 13 14 15 16 17 18
SERVERS := tests/servers/package.json tests/servers/package-lock.json .ci/install-servers
CLIENTS := tests/servers/requirements.txt .ci/install-clients

.PHONY: help demo test rust-test soak compat schema-checks browser bench lint deb teams-package tools system

help: ## list what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## try the bot in a browser: a fake Slack, a fake Teams and real PostgreSQL servers, nothing to set up
	@.ci/install-tools --demo
	@cargo run --locked --quiet -- demo

test: tools rust-test schema-checks browser ## run every test

rust-test: tools ## run the Rust tests; they leave the payloads for the schema checks
	rm -rf $(PAYLOADS)
	COUNTERSIGN_TEST_MAJORS="$(MAJORS)" COUNTERSIGN_TEST_PRISMA=yes cargo test --locked --no-fail-fast

soak: tools ## let 200 people use three replicas while those and servers fail; then slow clients, many sessions and many updates
	COUNTERSIGN_TEST_SOAK_SECONDS=600 cargo test --locked --test soak -- --nocapture
	COUNTERSIGN_TEST_OUTAGE_SECONDS=90 cargo test --locked --test store_sqlite a_promoted_server
	ulimit -n 16384 && COUNTERSIGN_TEST_CLIENTS=5000 cargo test --locked --test workflow slow_clients
	ulimit -n 16384 && COUNTERSIGN_TEST_SESSIONS=5000 cargo test --locked --test workflow a_full_server_is_emptied
	COUNTERSIGN_TEST_ROUNDS=20 cargo test --locked --test workflow rolling_restart

compat: system .tools/postgres/.stamp-all tools ## ask every PostgreSQL major that is supported, 13 to 18
	COUNTERSIGN_TEST_MAJORS="$(ALL_MAJORS)" cargo test --locked --no-fail-fast --test commands --test backup majors
	@for major in $(ALL_MAJORS); do echo "the sample on $$major"; \
	    COUNTERSIGN_TEST_PG_BIN="$$(realpath .tools/postgres/$$major/bin)" cargo test --locked --quiet --test sample_servers; \
	    COUNTERSIGN_TEST_PG_BIN="$$(realpath .tools/postgres/$$major/bin)" cargo test --locked --quiet --test workflow -- reindex vacuum_full; \
	    COUNTERSIGN_TEST_PG_BIN="$$(realpath .tools/postgres/$$major/bin)" cargo test --locked --quiet --test terminal -- what_a_command_needs; done

schema-checks: tools ## check the payloads of the last test run by Slack's and Microsoft's own types, models and schemas
	node tests/schema_checks/structure.mjs --self-test $(CHECKED)
	.tools/venv/bin/python tests/schema_checks/lengths.py --self-test $(CHECKED)

browser: tools ## play through the demo in Chromium
ifeq ($(PLAYS),)
	@echo 'tests/browser holds no play'
else
	@# As the tests were built: without them some crates are built with fewer features, and again.
	cargo test --locked --quiet --no-run
	CHROMIUM="$$(command -v chromium)" COUNTERSIGN=$(TARGET)/debug/countersign node --test --test-reporter=spec $(PLAYS)
endif

bench: system .tools/postgres/.stamp-all tools ## measure
	ulimit -n 16384 && cargo bench --locked

lint: ## check the formatting and the lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Not part of `make test`: a release takes minutes to build. The chroot needs root.
deb: .tools/bin/cargo-deb ## build the Debian package, install it into a chroot and take the steps of docs/install.md there
	cargo build --release --locked --no-default-features
	tests/package/pages.sh $(TARGET)/release/countersign target/package
	.tools/bin/cargo-deb --no-build --locked --quiet --output $(TARGET)/countersign.deb
	tests/package/chroot.sh $(TARGET)/countersign.deb tests/package/install.sh
	cargo test --locked --no-run --test terminal
	COUNTERSIGN_TEST_CHROOT=/mnt/root tests/package/chroot.sh $(TARGET)/countersign.deb cargo test --locked --test terminal install

teams-package: ## pack the Teams app: APP_ID=<client id of the bot> HOST=<countersign.contoso.com>
	@mkdir -p $(TARGET)
	@python3 manifest/teams/package.py "$(APP_ID)" "$(HOST)" $(TARGET)/countersign-teams.zip

tools: system .tools/node/.stamp .tools/venv/.stamp .tools/postgres/.stamp .tools/clients/.stamp .tools/prisma/.stamp ## install what the tests need and is missing

system:
	@.ci/install-tools

# The link lets every file under tests/ import the packages.
.tools/node/.stamp: tests/schema_checks/package.json tests/schema_checks/package-lock.json
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error >/dev/null
	@ln -sfn $(@D)/node_modules node_modules
	@touch $@

.tools/venv/.stamp: tests/schema_checks/requirements.txt
	@python3 -m venv --clear $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.tools/postgres/.stamp: $(SERVERS)
	@.ci/install-servers

.tools/postgres/.stamp-all: $(SERVERS)
	@.ci/install-servers --all

.tools/clients/.stamp: .tools/venv/.stamp $(CLIENTS)
	@.ci/install-clients

.tools/bin/cargo-deb:
	cargo install --quiet --locked --root .tools --version 3.8.0 cargo-deb

# Its own scripts would look for an engine outside of the registry.
.tools/prisma/.stamp: tests/prisma/package.json tests/prisma/package-lock.json
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@
