"""Notifications that staff send to many users from the admin. ``apps.py`` says what belongs to it."""
