"""Examines model files, says what each fault costs, and writes better ones."""
