"""Recovery: what a float network can be changed to, and int8 codes can be moved by, so that int8 loses less."""
