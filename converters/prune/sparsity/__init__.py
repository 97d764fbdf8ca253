"""Makes weights inside layers 0, in patterns that kernels turn into time."""

from edgekit.converters.prune.sparsity.report import SparseLayer, SparsityReport
from edgekit.converters.prune.sparsity.sparsify import Pruned, Sparsity, Zeros, sparsify

__all__ = ["Pruned", "SparseLayer", "Sparsity", "SparsityReport", "Zeros", "sparsify"]
