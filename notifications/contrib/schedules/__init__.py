"""Tasks that are enqueued periodically, as declared in the settings. ``apps.py`` says what belongs to it."""
