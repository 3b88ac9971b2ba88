"""An engine that records what it is given."""

from notifications.contrib.engines.interface import Engine

#: The jobs that were dispatched and revoked, in order.
dispatched, revoked = [], []


class RecordingEngine(Engine):
    def dispatch(self, jobs):
        dispatched.extend(jobs)

    def revoke(self, jobs):
        revoked.extend(jobs)


def create_engine(alias, name):
    return RecordingEngine(alias, name)
