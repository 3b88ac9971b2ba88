"""An engine whose processes are rows of workers that a test makes: it wakes nobody."""

from notifications.contrib.engines.interface import Engine


class IdleEngine(Engine):
    """Answers as the test says: `error` is raised by ping(), `taken` and `idle` are what its methods return."""

    error = None
    taken = None
    #: What is known of its processes without a row.
    idle = False
    wait = None

    @property
    def label(self):
        return "Idle"

    @property
    def process_name(self):
        return "idle"

    def wake(self, queue, count, *, expires):
        pass

    def has_idle_processes(self):
        return self.idle

    def taken_queues(self):
        return self.taken

    def ping(self):
        if self.wait:
            self.wait.wait(30)
        if self.error:
            raise self.error
        return "It answers."


def create_engine(alias, name):
    return IdleEngine(alias, name)
