"""Recovery: what a float network can be changed to, and int8 biases moved by, so that int8 loses less."""
