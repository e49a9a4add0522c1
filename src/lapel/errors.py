"""The one exception for what the user can mend: a command prints it as one line and exits with code 2."""


class LapelError(Exception):
    """Bad input: the message is one line that names the thing, where it is, and what is allowed."""
