"""`python export.py`: the same as the installed command `lapel-export`."""

from lapel.cli import export_command

if __name__ == "__main__":
    export_command()
