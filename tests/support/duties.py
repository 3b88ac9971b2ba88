"""Do now what a process does every so often."""

from notifications.extension import Upkeep, Where


def run_duty(name, where=Where.WORKER, **options):
    """Do a duty until nothing is left to do, as a process of this kind does when it is due.

    On this thread, but what calls code of the project on one for that, whose calls have ended then.
    """
    process = Upkeep(where, seconds=60, **{"may_reap": lambda: True, **options})
    [duty] = [duty for duty in process.duties if duty.name == name]
    while process.run(duty):
        pass
    process.project_threads.end(60)
