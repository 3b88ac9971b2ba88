"""Incidents: since when the jobs of a task fail with one error, until when, and whom that affects.

recording    records incidents and affected users from the jobs that have failed, and when an incident is over
reading      the incidents that pages show
texts        times and causes in words
"""
