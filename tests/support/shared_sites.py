"""Running sites that tests use one after the other, if they change nothing but rows: each test finds new users.

Between two tests all rows are deleted but those that the running processes have written about themselves, and the
users are created again, with other ids: what a process still remembers concerns users that no longer exist.
A site that a test has changed otherwise is closed, and the next test gets another one.
"""

from contextlib import contextmanager

import pytest

#: Whether a phase of the test has failed.
FAILED = pytest.StashKey[bool]()

#: Tables that keep their rows: those that ``migrate`` fills, and what the processes of the site write of themselves.
KEPT_TABLES = {
    "auth_permission",
    "django_content_type",
    "django_migrations",
    "notifications_epoch",
    "notifications_ring",
    "notifications_serverprocess",
    "notifications_worker",
}
#: Work and settings that a test has left behind, which the processes of the site may know.
LEFT_BEHIND = (
    "SELECT COUNT(*) FROM notifications_job WHERE state NOT IN ('succeeded', 'failed', 'cancelled')",
    "SELECT COUNT(*) FROM notifications_queue",
    "SELECT COUNT(*) FROM notifications_schedules_schedule",
)
USER_COLUMNS = (
    *("username", "password", "first_name", "last_name", "email"),
    *("is_active", "is_staff", "is_superuser", "date_joined"),
)


class SharedSites:
    """The sites of a session, one for each way to start it."""

    def __init__(self, sites):
        self._sites = sites
        self._by_name = {}

    @contextmanager
    def running(self, request, name, start):
        """Yield a running site to the test of the request. `start(site)` starts the server of this name.

        The site's log is shown when the test fails.
        """
        shared = self._by_name.setdefault(name, SharedSite(self._sites, start))
        site = shared.open()
        log_length = len(site.log())
        yield site
        has_failed = request.node.stash.get(FAILED, False)
        if has_failed:
            request.node.add_report_section("teardown", "site", site.log()[log_length:])
        shared.release(is_reusable=not has_failed)

    def close(self):
        for shared in self._by_name.values():
            shared.close()


class SharedSite:
    """A running site, or none yet: open() and release() it."""

    def __init__(self, sites, start):
        self.sites = sites
        self.start = start
        self.site = None

    def open(self):
        """Return a running site without jobs, notifications and sessions, with the users that Site names."""
        if not self.site:
            self.site = self.sites.make()
            self._users = self.site.rows(f"SELECT {', '.join(USER_COLUMNS)} FROM auth_user ORDER BY id")
            self.start(self.site)
            self._environment = self.site.env()
            self._processes = list(self.site.processes)
        return self.site

    def release(self, *, is_reusable):
        """Prepare the site for the next test, or close it if that cannot be done by deleting rows."""
        if is_reusable and self._is_unchanged():
            self._reset()
        else:
            self.close()

    def close(self):
        if self.site:
            self.site.close()
            self.site = None

    def _is_unchanged(self):
        site = self.site
        return (
            site.env() == self._environment
            and site.processes == self._processes
            and all(process.running for process in site.processes)
            and not any(site.rows(query)[0][0] for query in LEFT_BEHIND)
        )

    def _reset(self):
        names, marks = ", ".join(USER_COLUMNS), ", ".join("?" * len(USER_COLUMNS))
        self.site.write(
            [
                *((f"DELETE FROM {table}", ()) for table in self.site.tables() if table not in KEPT_TABLES),
                *((f"INSERT INTO auth_user ({names}) VALUES ({marks})", user) for user in self._users),
            ]
        )
        self.site.release(0)
