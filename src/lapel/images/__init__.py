"""Pixels: decoding, preprocessing, stores and augmentation. `decoding` and `building` need no torch."""
