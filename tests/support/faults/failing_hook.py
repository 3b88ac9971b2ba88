"""An extension of which a hook raises as long as a file exists: FAULT_HOOK, named as the hook."""

import os
from pathlib import Path

from notifications.extension import Extension, WorkerPart

HOOK = Path(os.environ["FAULT_HOOK"])


class FailingHook(Extension):
    name = "tests.support.faults.failing_hook"
    label = "failing_hook"

    def on_ends(self, outcomes, tx):
        raise_if_broken("on_ends")
        return ()

    def worker_part(self, state):
        return FailingPart()


class FailingPart(WorkerPart):
    async def before_outcome(self, job):
        raise_if_broken("before_outcome")


def raise_if_broken(hook):
    if HOOK.name == hook and HOOK.exists():
        raise RuntimeError("The hook is out of order.")
