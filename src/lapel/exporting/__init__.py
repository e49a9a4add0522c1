"""Writes bundles: the only room that knows both torch and what a bundle holds."""
