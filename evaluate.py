"""`python evaluate.py`: the same as the installed command `lapel-evaluate`."""

from lapel.cli import evaluate_command

if __name__ == "__main__":
    evaluate_command()
