"""Files: how they are written whole or not at all, paths as people give them, plain containers, the user's cache."""
