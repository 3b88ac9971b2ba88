"""The built-in worker, one asyncio event loop. ``worker.py`` connects the parts, which do not know one another.

claim_loop -> job_runner -> execution -> record_loop  the way of a job
held_outcomes                 what is kept while a hook of an extension fails
running_jobs                  beside the jobs that run
capacity, subtasks            how many jobs may be claimed; the asyncio tasks that jobs start
joining                       ``join()``
lease, watchdog, maintenance  what keeps this worker, and all workers, healthy
writer                        the thread of the worker's transactions
loops, state                  how the loops run, and what they share
embedded                      the worker inside a server process
"""
