"""Boards: what they are, how to compile for them and how to reach them."""
