"""Signals of the app.

``notification_recording``
    Inside the transaction that records the outcome of a job.
    Arguments: ``notification`` (the unsaved-to-the-world row, already inserted), ``job`` (the Job).
    What a receiver writes here, an enqueued job for an e-mail for example, is as safe as the notification.
    A receiver that raises undoes what receivers wrote for this job, nothing else.
``notification_recorded``
    After the commit. Arguments: ``notification``.
``job_finished``
    After the commit. Arguments: ``job``.
"""

from django.dispatch import Signal

notification_recording = Signal()
notification_recorded = Signal()
job_finished = Signal()

#: Private: a hint after a commit, for the doorbell. Arguments: ``users`` (list of keys), ``queue`` (bool),
#: ``rings`` (ids of the rows of ``Ring`` that say the same to other processes).
rung = Signal()
