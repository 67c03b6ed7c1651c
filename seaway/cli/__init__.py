"""The command line: verbs only. Each verb reads its options, calls one function and prints what came of it."""

from seaway.cli.main import main

__all__ = ["main"]
