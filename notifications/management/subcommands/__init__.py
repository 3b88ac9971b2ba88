"""The subcommands of ``manage.py notifications``, a module for each.

jobs, job_verbs, job_enqueue, job_tail, job_lines  ``jobs``: its verbs, and how they print jobs
doctor, new_epoch, prune, watch                    the others
"""
