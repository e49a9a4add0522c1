"""The bundle: a trained encoder, its index and its rows in one folder. Read and searched without torch."""

from lapel.bundle.bundle import Bundle, load

__all__ = ["Bundle", "load"]
