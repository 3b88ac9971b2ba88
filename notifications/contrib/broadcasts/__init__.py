"""Notifications that staff send to many users: who gets them, and the jobs that send and withdraw them."""
