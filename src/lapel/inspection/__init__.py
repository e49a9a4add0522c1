"""lapel-data: what a data set holds, whether it can be trained on, and what leaks between its splits."""
