"""What became of the calls to programs."""
