"""Those who take part in `bench/peers.py`: a module each, written as a user of that library would write it.

Every contender is a process of its own, so that its memory can be told from the others', and works only while it has
the turn (`turns`). `processes` is the other end, at which the driver sits; `standing` keeps the scores.
"""
