"""What `deploy` does with ``prune``: recipes, and the choice among them."""
