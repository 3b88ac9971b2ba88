"""Alerts: what needs an operator, from when it begins until it is over. ``operations/announcing/`` notifies of them.

limits       the limits of ``NOTIFICATIONS["ALERTS"]``
conditions   what is wrong now, from a bounded number of rows
episodes     open and close the rows of alerts
texts        what their details say
evaluation   called by each server process and worker; one of them at a time evaluates
recipients   the users with the permission ``notifications.receive_alerts``
"""
