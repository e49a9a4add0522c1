"""Many images embedded by several processes; no torch."""
