"""Chooses the database before Django's settings are read: a plugin, because a conftest is too late for it."""

import os
import shutil
import signal
import tempfile

import pytest

from tests.support.postgres import Postgres

cluster = None
folder = None


def pytest_addoption(parser):
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="run on a SQLite file (the default) or on a PostgreSQL cluster that is started for this run",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config):
    """Start the cluster and name it in DATABASE_URL. A wrapper runs before pytest-django reads settings."""
    global cluster, folder
    if "TEST_DIR" not in os.environ:  # it is there in the processes of pytest-xdist
        folder = os.environ["TEST_DIR"] = tempfile.mkdtemp(prefix="asyncsite-tests-")
    if early_config.known_args_namespace.database == "postgres" and "PYTEST_XDIST_WORKER" not in os.environ:
        try:
            cluster = Postgres()
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            raise pytest.UsageError(f"--database postgres: {reason}") from None
        cluster.create("tests")
        os.environ["DATABASE_URL"] = cluster.url("tests")
    return (yield)


def pytest_configure():
    # Where a script runs the tests in the background SIGINT is ignored, and every process they start would inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure():
    if cluster:
        cluster.stop()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
