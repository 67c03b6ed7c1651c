"""The errors that a person is meant to read."""


class SeawayError(Exception):
    """A problem with a clear cause: its text names what is wrong and what to do.

    The command line prints the text without a stack trace and exits with 2.
    """


class Conflict(SeawayError):
    """Someone else wrote the object since it was read: read it again and decide anew."""


class NotFound(SeawayError):
    """There is no object of that name."""
