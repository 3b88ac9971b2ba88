"""An engine that records what it is asked for."""

from notifications.contrib.engines.interface import Engine

#: The messages that were sent, in order: backend, queue, count.
messages = []


class RecordingEngine(Engine):
    def wake(self, queue, count, *, expires):
        messages.append((self.alias, queue, count))


def create_engine(alias, name):
    return RecordingEngine(alias, name)
