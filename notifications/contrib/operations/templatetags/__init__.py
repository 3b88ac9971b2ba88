"""Template tags of pages of operations."""
