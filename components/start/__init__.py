"""The step start."""
