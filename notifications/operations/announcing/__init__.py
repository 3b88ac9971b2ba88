"""Announce alerts and problems of schedules to their readers.

Processes that find or end an alert or a problem only write its row. Announcers compare these rows with the state that
each reader was last notified of, and notify once for each difference, however often the state has changed in between.

topics      what can be wrong, its present state, and its readers
alerts      the topics of alerts
schedules   the topics of schedules
announcer   compares, and notifies one reader at a time
"""
