"""The step register."""
