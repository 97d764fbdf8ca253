"""A bundle: what a board gets, the proof that it works there, and whose it is."""
