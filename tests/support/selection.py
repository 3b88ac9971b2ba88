"""Markers for files of tests: those that `make test` skips, that run alone, and that CI runs only once."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent

#: The folders and files (below tests/) of each marker.
PATHS_BY_MARKER = {
    "slow": [
        "conformance",
        "faults",
        "model",
        "packaging",
        "admin/test_large_tables.py",
        "admin/test_permissions.py",
        "commands/test_doctor_engines.py",
        "commands/test_worker_processes.py",
        "engines/test_backend.py",
        "contrib/celery/test_adoption.py",
        "contrib/celery/test_run.py",
        "jobs/test_large_batches.py",
        "data/test_crowd.py",
        "data/test_plans.py",
        "data/test_two_hundred.py",
        "docs/test_deploy.py",
        "docs/test_engines.py",
        "docs/test_from_django_celery_results.py",
        "docs/test_tutorial.py",
        "http/test_schemathesis.py",
        "contrib/celery/test_kills.py",
        "contrib/celery/test_rabbitmq.py",
        "contrib/celery/test_run_rabbitmq.py",
        "realtime/doorbell/test_transports.py",
    ],
    "alone": [
        "conformance/test_server.py",
        "contrib/celery/test_run_rabbitmq.py",
    ],
    "any_database": [
        "asyncsite",
        "conformance",
        "docs",
        "hosts",
        "model",
        "commands/test_doctor_engines.py",
        "commands/test_worker_processes.py",
        "contrib/celery/test_adoption.py",
        "contrib/celery/test_kills.py",
        "contrib/celery/test_rabbitmq.py",
        "contrib/celery/test_run_rabbitmq.py",
        "engines/test_backend.py",
        "outbound",
        "support",
        "templatetags",
        "faults/test_celery_broker.py",
        "faults/test_celery_deployment.py",
        "faults/test_celery_workers.py",
        "faults/test_dead_readers.py",
        "faults/test_doorbells.py",
        "faults/test_no_files.py",
        "faults/test_silence.py",
        "faults/test_stalls.py",
        "http/test_bad_requests.py",
        "http/test_frameworks.py",
        "http/test_openapi.py",
        "http/test_schemathesis.py",
        "http/test_live_server.py",
        "realtime/doorbell/test_transports.py",
        "realtime/servers",
        "realtime/test_daphne_tls.py",
        "realtime/transports",
        "streams/test_only_writer.py",
        "test_javascript.py",
        "test_layout.py",
        "test_patterns.py",
        "test_stylesheets.py",
        "test_validators.py",
        "test_venv.py",
    ],
    "any_django": [
        "conformance",
        "faults",
        "model",
        "docs",
        "contrib/celery/test_kills.py",
        "contrib/celery/test_rabbitmq.py",
        "contrib/celery/test_run_rabbitmq.py",
        "contrib/celery/test_run.py",
        "data/test_crowd.py",
        "data/test_two_hundred.py",
        "support",
        "asyncsite/test_database_away.py",
        "outbound/test_body.py",
        "outbound/test_circuits.py",
        "outbound/test_guard.py",
        "outbound/test_pools.py",
        "outbound/test_resolver.py",
        "outbound/test_retries.py",
        "outbound/test_slots.py",
        "outbound/test_ssrf.py",
        "realtime/doorbell",
        "streams/test_only_writer.py",
        "test_javascript.py",
        "test_layout.py",
        "test_patterns.py",
        "test_stylesheets.py",
        "test_venv.py",
    ],
}


#: Fixtures that start other processes.
PROCESS_FIXTURES = {"broker", "browser", "postgres", "rabbitmq", "redis", "sites"}
#: Where a test must not fail even once.
FOLDERS_WITHOUT_RERUNS = {"conformance", "faults", "model"}


def mark(items: list[pytest.Item]) -> None:
    """Add the markers of each test's file and folders, and that of tests with a browser.

    In CI a failed test that starts other processes runs once more, because these miss their deadlines on a machine that
    stands still for seconds. pytest lists such tests as RERUN. Tests of delivery under faults never run again: one lost
    job in many runs is a defect.
    """
    is_ci = os.environ.get("CI") == "true"
    for item in items:
        path = item.path.relative_to(TESTS)
        path_and_parents = {path.as_posix(), *(parent.as_posix() for parent in path.parents)}
        for marker, paths in PATHS_BY_MARKER.items():
            if not path_and_parents.isdisjoint(paths):
                item.add_marker(marker)
        fixtures = set(getattr(item, "fixturenames", ()))
        if "browser" in fixtures:
            item.add_marker("browser")
        measures_time = path.name == "test_stalls.py"
        if (
            is_ci
            and fixtures & PROCESS_FIXTURES
            and (measures_time or path_and_parents.isdisjoint(FOLDERS_WITHOUT_RERUNS))
        ):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=5))
