"""Optional apps. Each is complete in its folder, and nothing of the core imports it."""
