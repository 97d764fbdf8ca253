"""Takes weights out of a float graph, in shapes that kernels turn into time."""
