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
JUDGED := $(PAYLOADS) manifest/slack.yaml
PLAYS := $(wildcard tests/browser/*.mjs)

.PHONY: help demo test rust-test judge browser bench lint tools system

help: ## list what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: system ## try the bot in a browser: a pretend Slack and real PostgreSQL servers, nothing to set up
	@cargo run --locked --quiet -- demo

test: tools rust-test judge browser ## run every test

rust-test: tools ## run the Rust tests; they leave the payloads for the judges
	rm -rf $(PAYLOADS)
	cargo test --locked --no-fail-fast

judge: tools ## let Slack's own types and models judge the payloads of the last test run
	node tests/judges/judge.mjs --self-test $(JUDGED)
	.tools/venv/bin/python tests/judges/judge.py --self-test $(JUDGED)

browser: tools ## play through the demo in Chromium
ifeq ($(PLAYS),)
	@echo 'tests/browser holds no play'
else
	cargo build --locked --quiet
	CHROMIUM="$$(command -v chromium)" COUNTERSIGN=$(TARGET)/debug/countersign node --test --test-reporter=spec $(PLAYS)
endif

bench: system ## measure
	cargo bench --locked

lint: ## check the formatting and the lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

tools: system .tools/node/.stamp .tools/venv/.stamp ## install what the tests need and is missing

system:
	@.ci/install-tools

# The link lets every file under tests/ import the packages.
.tools/node/.stamp: tests/judges/package.json tests/judges/package-lock.json
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error >/dev/null
	@ln -sfn $(@D)/node_modules node_modules
	@touch $@

.tools/venv/.stamp: tests/judges/requirements.txt
	@python3 -m venv --clear $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
