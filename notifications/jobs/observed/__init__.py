"""The jobs of observed tasks: other workers execute them, and this app only records what they report.

starts      an attempt that was observed, and its start
recording   starts and ends, in groups of one transaction
changes     what becomes of one job: retried, queued again, ended
observer    what an app that observes tasks calls

``contrib/celery/`` observes the tasks of Celery. These modules change the state of a job as those of
``jobs/transitions/`` do: by an UPDATE conditional on its id, its fence and the state that it leaves.
"""
