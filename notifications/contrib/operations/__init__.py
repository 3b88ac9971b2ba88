"""What operators of jobs see and do. ``apps.py`` says what belongs to it."""
