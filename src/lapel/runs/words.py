"""What is said of a run's training, in the same words wherever it is said."""

# After how long a training took: `train.json` has it as training_seconds, added up over resumes. Its seconds are all that
# the last process took, with reading data, validation and checkpoints.
IN_STEPS = "in training steps"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 min 44 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
