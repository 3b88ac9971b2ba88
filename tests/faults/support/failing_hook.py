"""An extension whose hook raises as long as a file exists: FAULT_HOOK."""

import os

from notifications.extension import Extension


class FailingHook(Extension):
    name = "tests.faults.support.failing_hook"
    label = "failing_hook"

    def on_ends(self, outcomes, tx):
        if os.path.exists(os.environ["FAULT_HOOK"]):
            raise RuntimeError("The hook is out of order.")
        return ()
