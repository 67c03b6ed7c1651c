"""The one error that a person is meant to read."""


class SeawayError(Exception):
    """A problem with a clear cause: its text names what is wrong and what to do.

    The command line prints the text without a stack trace and exits with 2.
    """
