"""Alerts: what needs an operator, from when it begins until it is over. Users are notified of them.

conditions   what is wrong now by the limits of ``NOTIFICATIONS["ALERTS"]``, from a bounded number of rows
failing      the alert of a task of which many jobs fail
texts        what they say: their details, the notifications of operators, and the page of what an alert is about
evaluation   opens and closes the rows of alerts; one process at a time evaluates
"""
