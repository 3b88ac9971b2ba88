"""Settings with Django's default options for SQLite: rollback journal, deferred transactions, a timeout of 5 s."""

from tests.support.faults.engine_settings import *  # noqa: F403
from tests.support.faults.engine_settings import DATABASES

DATABASES["default"].pop("OPTIONS", None)
