"""What a command does first: help, where that is asked for, before anything else is imported."""

from lapel.commands.starting import asks_for_help


def helped(name: str) -> bool:
    """Print help on a command, or on what its arguments name, if they ask for that; whether they do.

    Args:
        name: of the choice in the group `command` whose config it is.
    """
    if not asks_for_help():
        return False
    from lapel.commands.help import print_help

    print_help(name)
    return True
