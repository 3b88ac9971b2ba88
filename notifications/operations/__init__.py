"""What the admin, ``doctor``, metrics and probes ask about jobs.

alerts              what needs an operator, from when it begins until it is over
matching            the jobs that a filter selects
bulk_changes        retries and cancels the jobs of a filter
readiness           whether this process can serve requests or run jobs
stored_times        finds and repairs times that were stored while a clock was wrong
metrics             the text format of Prometheus
"""
