"""Seaway's shared core: configuration, records, features, evidence and lineage.

Knows no other folder of the project; importing it does no I/O.
"""
