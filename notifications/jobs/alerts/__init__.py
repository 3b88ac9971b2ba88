"""Alerts: tell operators about what needs them, once when it begins and once when it is over.

limits       the limits of ``NOTIFICATIONS["ALERTS"]``
conditions   what is wrong now, from a bounded number of rows
episodes     open and close the rows of alerts, and notify who may receive them
evaluation   called by each server process and worker; one of them at a time evaluates
recipients   the users with the permission ``notifications.receive_alerts``
"""
