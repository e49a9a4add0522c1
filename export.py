"""`python export.py`: the same as the installed command `lapel-export`."""

from lapel.commands.export import main

if __name__ == "__main__":
    main()
