# Danbao's commands. Begin with `make run`. Needs: make, Python 3.11 or newer with pip; everything else is installed
# into the checkout. Recipes that run for long end in exec, so that a signal to make reaches what it started.
#
# Ports are free ones, the same again while they stay free; set one by its variable, for example
#   make run GATEWAY_PORT=8080
# GATEWAY_PORT GATEWAY_ADMIN_PORT PAYMENTS_PORT ESCROW_PORT CREDIT_PORT OTLP_PORT POSTGRES_PORT

PYTHON = python3
WITH = command -v "$(PYTHON)" >/dev/null 2>&1 \
	|| { echo 'Danbao needs Python 3.11 or newer, and there is no $(PYTHON): name one by PYTHON=.' >&2; exit 1; }; \
	exec "$(PYTHON)" deploy/local/bootstrap.py
IN_VENV = .venv/bin/python -P -m

.PHONY: help install run demo stop status test lint licences audit sbom replay train bench fuzz lock clean

help:
	@echo 'make run      install, start everything, play one secured trade, stay until Ctrl-C'
	@echo 'make demo     the same, and stop'
	@echo 'make stop     stop what runs            make status   what runs'
	@echo 'make test     every test (ARGS=... goes to pytest)'
	@echo 'make lint     every check that runs no product code'
	@echo 'make licences whether all that is locked is under a licence that we accept (part of make lint)'
	@echo 'make audit    known vulnerabilities of what is locked; asks a database over the network [SERVICE=...]'
	@echo 'make sbom     bills of materials, into .danbao/sbom [OUT=folder] [BASE=image@digest] [ENVOY=image@digest]'
	@echo 'make replay   real orders as trades: DATA=folder [LIMIT=n] [JSON=file] [STEP=hours] [FRESH=1]'
	@echo 'make train    make the model that ships, and its report [ORDERS=n] [SEED=n] [OUT=file] [VERSION=name] [AGAIN=1]'
	@echo 'make bench    measure [QUICK=1]'
	@echo 'make fuzz     malformed and mutated requests at every RPC [COUNT=n] [SEED=n] [AGAIN=file]'
	@echo 'make lock     resolve requirements.in again     make clean   remove all of it, the data too'

install:
	@$(WITH)

run:
	@$(WITH) -P -m danbao_local run

demo:
	@$(WITH) -P -m danbao_local demo

stop:
	@$(WITH) -P -m danbao_local stop

status:
	@$(WITH) -P -m danbao_local status

test:
	@$(WITH) --tests -P -m pytest $(ARGS)

replay:
	@test -n "$$DATA" || { echo 'Say where the orders are: make replay DATA=folder' >&2; exit 1; }
	@$(WITH) -P -m danbao_local.replay --data "$$DATA" $(if $(LIMIT),--limit "$$LIMIT") $(if $(JSON),--json "$$JSON") \
		$(if $(STEP),--step "$$STEP") $(if $(FRESH),--fresh)

train:
	@$(WITH) -P -m danbao_local.train $(if $(ORDERS),--orders "$$ORDERS") $(if $(SEED),--seed "$$SEED") \
		$(if $(OUT),--out "$$OUT") $(if $(VERSION),--version "$$VERSION") $(if $(AGAIN),--again)

bench:
	@$(WITH) -P -m danbao_local.bench $(if $(QUICK),--quick)

fuzz:
	@$(WITH) -P -m danbao_local.fuzz $(if $(COUNT),--count "$$COUNT") $(if $(SEED),--seed "$$SEED") \
		$(if $(AGAIN),--again "$$AGAIN")

lint: install
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) mypy services/*/danbao_* deploy/*/danbao_*
	.venv/bin/lint-imports
	.venv/bin/buf lint protos/gen/danbao/descriptors.binpb --config protos/buf.yaml --path danbao
	.venv/bin/buf format --diff --exit-code protos --path protos/danbao
	for file in services/*/Dockerfile; do .venv/bin/hadolint "$$file" || exit 1; done
	$(IN_VENV) danbao_supply licences
	@if grep -n '://' requirements.lock; then echo 'A lock must not name an address.' >&2; exit 1; fi

audit: install
	@$(IN_VENV) danbao_supply audit $(SERVICE)

sbom: install
	@$(IN_VENV) danbao_supply sbom $(if $(OUT),--out "$$OUT") $(if $(BASE),--base "$$BASE") $(if $(ENVOY),--envoy "$$ENVOY")

licences: install
	@$(IN_VENV) danbao_supply licences

lock: install
	.boot/bin/uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header \
		requirements.in -o requirements.lock

clean:
	@if [ -x .venv/bin/python ]; then $(IN_VENV) danbao_local clean || true; fi
	rm -rf .danbao .venv .boot protos/gen bench.json
