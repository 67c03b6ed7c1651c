"""Promotion of a release bundle from one environment to another: looked at, checked, moved, entered as a canary."""
