"""Rules about faults that a model file can have: each finds, says what it costs, and mends where it can."""
