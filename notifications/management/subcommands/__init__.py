"""The subcommands of ``manage.py notifications``, a module for each.

jobs, job_verbs, job_lines, job_history, job_changes  ``jobs``: its verbs, and how they print jobs
doctor, new_epoch, prune, watch  the others
"""
