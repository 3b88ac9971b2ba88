"""Settings of a host whose SQLite has Django's default options: rollback journal, deferred transactions, 5 s."""

from tests.faults.support.engine_settings import *  # noqa: F403
from tests.faults.support.engine_settings import DATABASES

DATABASES["default"].pop("OPTIONS", None)
