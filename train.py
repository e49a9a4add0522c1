"""`python train.py`: the same as the installed command `lapel-train`."""

from lapel.cli import train_command

if __name__ == "__main__":
    train_command()
