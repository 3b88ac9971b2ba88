"""Slack: notifications in Slack, by incoming webhooks."""
