"""Do now what a process does every so often."""

from notifications.extension import Upkeep, Where


def run_duty(name, where=Where.WORKER, **options):
    """Do a duty until nothing is left to do, with what it starts on threads for code of the project."""
    process = Upkeep(where, seconds=60, **{"may_reap": lambda: True, **options})
    [duty] = [duty for duty in process.duties if duty.name == name]
    while process.run(duty):
        pass
    process.project_threads.end(60)


def enqueue_deliveries():
    """Enqueue the jobs of all deliveries that are due, on this thread."""
    for duty in Upkeep(Where.WORKER, seconds=60).duties:
        if duty.name.startswith("enqueue deliveries"):
            while ids := duty.subjects.take():
                duty.run(ids)
                duty.subjects.finish(ids)
