"""Photo files to pixels, without torch: where they lie, how they are decoded, and decoded once."""
