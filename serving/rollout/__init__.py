"""Observe, decide, act: how a candidate's share of the traffic changes, and why."""
