"""Management commands, and the checks of ``doctor``."""
