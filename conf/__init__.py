"""The yaml groups, installed as the package `lapel.conf` so that Hydra finds them anywhere."""
