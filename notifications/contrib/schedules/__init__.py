"""Schedules: tasks that are enqueued periodically, as declared in ``NOTIFICATIONS["SCHEDULES"]``.

timing         when a schedule is due: by a cron expression or at an interval
declarations   reads and validates the declarations
ticks          enqueues one job for each tick that is due, whatever the number of processes
runs           records how the jobs ended, and which problems begin or end, as ``topics`` describes them
topics         what is announced of these problems, and to whom
operating      pause, resume and run a schedule by hand

The row of a schedule has the next tick; a job is enqueued in the transaction that advances it and inserts the row of
the tick, which is unique. So any number of processes may run ``ticks.run_round()``, and no leader is needed.
"""
