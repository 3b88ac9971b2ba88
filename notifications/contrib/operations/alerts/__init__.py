"""Alerts: what needs an operator, from when it begins until it is over. Users are notified of them.

conditions   what is wrong now by the limits of ``NOTIFICATIONS["ALERTS"]``, from a bounded number of rows
texts        what their details say, and the page that shows what an alert is about
evaluation   opens and closes the rows of alerts, and announces them; one process at a time evaluates
"""
