"""`python train.py`: the same as the installed command `lapel-train`."""

from lapel.commands.train import main

if __name__ == "__main__":
    main()
