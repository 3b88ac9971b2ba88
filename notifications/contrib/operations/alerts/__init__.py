"""Alerts: what needs an operator, from when it begins until it is over. Users are notified of them.

conditions   what is wrong now by the limits of ``NOTIFICATIONS["ALERTS"]``, from a bounded number of rows
episodes     open and close the rows of alerts
texts        what their details say
topics       what is announced of them, and to whom
evaluation   called by each server process and worker; one of them at a time evaluates
"""
