"""Chooses how a network is compressed: ranges, rounding, layers in float32, kernels, by its answers and its speed."""
