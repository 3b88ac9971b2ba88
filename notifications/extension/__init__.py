"""What a Django app adds to the core, which never imports it.

    class Audit(Extension):                      # audit/apps.py
        name = "audit"

        def on_created(self, rows, tx):
            return [Entry(notification=row.id) for row in rows]

A project installs it by one line of ``INSTALLED_APPS``. The core calls the methods below, hooks, of each installed
extension in the order of ``INSTALLED_APPS``; none may depend on that order. An extension that does not define a hook
costs no call.

Hooks of a transaction run inside it, on the thread that records, maybe several times: a transaction that fails is
repeated. They hold SQLite's only lock, or locked rows. So they call no code of the project, wait for nothing, and make
at most one query that an index answers; what needs more is done in ``prepare()``. What they return is inserted by the
core.

Hooks of reading answer for a list of rows, in one query, on the thread that reads and outside of a transaction.

A hook of a transaction that fails is owed, or its caller gets the error; one of reading is left out: see ``calls``.

app, pages, tables      the class ``Extension`` with its hooks, those that pages call, and what is deleted
calls, log_throttle     what an error of a hook does; lines that are logged once a minute
installed               the installed extensions, the hooks that the core calls, and those that are imported later
dimensions              what an extension adds: waits, parts of a worker, …; what hooks know of their transaction
channels                channels of deliveries
duty, dispatch          duties, and how engines learn of jobs
findings                what can be wrong: checks of doctor, probes and alerts
shipped                 which optional app that is not installed has a setting, a command, tags or a URL
"""

from typing import TYPE_CHECKING

from notifications.conf import Setting as Setting
from notifications.conf import WrongDeclaration as WrongDeclaration
from notifications.extension.app import Extension as Extension
from notifications.extension.channels import AddressGone as AddressGone
from notifications.extension.channels import Channel as Channel
from notifications.extension.channels import ChannelMessage as ChannelMessage
from notifications.extension.channels import Verdict as Verdict
from notifications.extension.dimensions import Event as Event
from notifications.extension.dimensions import Fact as Fact
from notifications.extension.dimensions import JobSection as JobSection
from notifications.extension.dimensions import OwnTask as OwnTask
from notifications.extension.dimensions import PageButton as PageButton
from notifications.extension.dimensions import RecordedTransaction as RecordedTransaction
from notifications.extension.dimensions import Topic as Topic
from notifications.extension.dimensions import WaitKind as WaitKind
from notifications.extension.dimensions import WorkerPart as WorkerPart
from notifications.extension.dispatch import Dispatch as Dispatch
from notifications.extension.duty import Duty as Duty
from notifications.extension.duty import Subjects as Subjects
from notifications.extension.duty import Where as Where
from notifications.extension.findings import Check as Check
from notifications.extension.findings import Finding as Finding
from notifications.extension.installed import hooks as hooks
from notifications.extension.installed import import_later as import_later
from notifications.extension.installed import require as require
from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.tracing.trace_context import serialize_trace as serialize_trace
    from notifications.upkeep import Upkeep as Upkeep
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.tracing.trace_context": "serialize_trace",
            "notifications.upkeep": "Upkeep",
        },
    )
