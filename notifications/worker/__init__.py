"""The built-in worker, one asyncio event loop. ``worker.py`` connects the parts, which do not know one another.

claim_loop -> job_runner -> execution -> record_loop    the way of a job
running_jobs                                            the loops beside the jobs that run
lease, watchdog, maintenance                            what keeps this worker, and all workers, healthy
writer                                                  the thread of the worker's transactions
embedded                                                the worker inside a server process
"""
