# make run        start the site (http://127.0.0.1:8000, other address: HOST, PORT)
# make worker     run jobs in a separate process, beside EMBEDDED_WORKER=0 make run
# make test       run the quick tests and a few with servers and browsers, in parallel; ARGS="-k word" selects
# make test-merge run the tests that must pass before a merge: all but those that repeat another one
# make test-all   run all tests: killed processes, brokers, thousands of clients, models, the built wheel
# make test-apps  run the quick tests of each optional app with no other one installed
# make surface    look at each page in Chromium: accessibility, texts, targets, shifts, tasks on a phone, a slow link
# make faults     kill, freeze and cut at random points (FAULT_ROUNDS=100 each), and run the slow test vectors
# make docs       build the documentation into build/docs; a broken link or reference fails
# make lint       check format, lint, types, imports and translations, as required before a commit
# make messages   update the message catalogs from the code; needs gettext
# make lint-js    lint the browser client, check its types, bundles and weight (Biome, TypeScript, Vite); needs npm
# make types      check types of the package (mypy) and of code that uses it (tests/typing; mypy and pyright)
# make help       print this list

.PHONY: run worker test test-merge test-all test-apps surface faults docs lint messages lint-js types help venv-dev

run:
	@tools/venv .venv requirements.txt
	@DEBUG=$${DEBUG-1} exec .venv/bin/python manage.py serve

# Without SECRET_KEY, DEBUG and var/development.json, which `make run` writes, the worker is in development too.
worker:
	@tools/venv .venv requirements.txt
	@[ -n "$${SECRET_KEY+given}$${DEBUG+given}" ] || [ -f var/development.json ] || export DEBUG=1; exec .venv/bin/python manage.py work

venv-dev:
	@tools/venv .venv requirements-dev.txt requirements.txt

# The tests start hundreds of processes, each of which would compile the packages again.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait for servers half of the time: a few more processes than there are cores, and at most 6.
PROCESSES = $(shell echo $$(($$(nproc) < 3 ? $$(nproc) + 3 : 6)))
PYTEST = .venv/bin/python -m pytest -n $(PROCESSES) --dist worksteal

test: venv-dev
	$(PYTEST) -m "quick and not nightly and not long" $(ARGS)

# Some miss the deadlines of their server beside others, and run after them.
test-merge: EXCEPT = and not nightly
test-merge test-all: venv-dev
	$(PYTEST) -m "not alone $(EXCEPT)" $(ARGS); parallel=$$?; \
	.venv/bin/python -m pytest -m "alone $(EXCEPT)" $(ARGS) && exit $$parallel

# The quick tests of each optional app, with no other one installed: make -j 4 -O test-apps
APPS = $(filter-out themes hq,$(patsubst tests/contrib/%/__init__.py,%,$(wildcard tests/contrib/*/__init__.py)))
test-apps: $(APPS:%=test-apps-%)
# It has as many tests as four others, and would end long after them.
test-apps-deliveries: PARALLEL = -n 3 --dist worksteal
$(APPS:%=test-apps-%): test-apps-%: venv-dev
	TEST_APP=$* .venv/bin/python -m pytest --ds=tests.app_settings $(PARALLEL) -m "quick $(EXCEPT)" tests/contrib/$* $(ARGS)

surface: venv-dev
	.venv/bin/python -m pytest -n 2 $(wildcard $(addprefix tests/browser/test_,layout_shift.py touch.py texts.py tasks_of_people.py)) $(ARGS)
	.venv/bin/python -m bench.slow_link

faults: venv-dev
	export FAULT_ROUNDS=$${FAULT_ROUNDS:-100} CONFORMANCE_SLOW=1 MODEL_EXAMPLES=$${MODEL_EXAMPLES:-500}; status=0; \
	.venv/bin/python -m pytest -m "not alone" -s $(ARGS) tests/faults tests/conformance tests/model tests/data/test_model.py \
		tests/contrib/*/test_model.py tests/jobs/test_batch_model.py || status=1; \
	.venv/bin/python -m pytest -m alone tests/conformance || status=1; \
	.venv/bin/python -m pytest -m "not any_database" --database postgres -s $(ARGS) tests/faults || status=1; \
	exit $$status

docs:
	@tools/venv .venv-docs docs/requirements.txt requirements.txt
	.venv-docs/bin/python -m sphinx -E -W --keep-going -q -b html docs build/docs

types: venv-dev
	.venv/bin/python -m mypy
	.venv/bin/python -m mypy --config-file tests/typing/mypy.ini
	.venv/bin/basedpyright --project tests/typing --pythonpath .venv/bin/python

lint: venv-dev types lint-js
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	PYTHONPATH=. .venv/bin/lint-imports --no-cache
	.venv/bin/python tools/messages --check

messages: venv-dev
	.venv/bin/python tools/messages

lint-js:
	@if ! command -v npm >/dev/null; then echo "Skipped lint-js: npm is not installed."; \
	elif ! npm install --no-save --no-audit --no-fund --silent; then echo "Skipped lint-js: npm could not install Biome and TypeScript."; \
	else npm run --silent lint && npm run --silent types && npm run --silent bundle -- --check && npm run --silent weight; fi

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile
