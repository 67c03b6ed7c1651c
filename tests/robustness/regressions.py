"""Bugs that these histories have found, by the seed that showed each first (``--count 1 --seed N``)."""

FOUND: dict[int, str] = {}
