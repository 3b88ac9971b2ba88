"""What a project declares: tasks with their policies, and observed tasks of other systems."""
