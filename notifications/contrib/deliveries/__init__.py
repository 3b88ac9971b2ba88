"""What is still open after its time goes by e-mail and push. ``apps.py`` says what belongs to it."""
