"""An engine that records what it is asked for."""

from notifications.contrib.engines.interface import Engine

#: The messages that were sent, in order: backend, queue, count.
messages = []


class RecordingEngine(Engine):
    error = None

    def wake(self, queue, count, *, expires):
        if self.error:
            raise self.error
        messages.append((self.alias, queue, count))


def create_engine(alias, name):
    return RecordingEngine(alias, name)
