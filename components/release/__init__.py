"""The step release."""
