"""`python evaluate.py`: the same as the installed command `lapel-evaluate`."""

from lapel.commands.evaluate import main

if __name__ == "__main__":
    main()
