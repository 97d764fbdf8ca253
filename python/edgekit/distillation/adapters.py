"""LoRA: large weights are trained through the product of two thin matrices (Hu et al., arXiv:2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from edgekit.distillation.network import GraphNetwork
from edgekit.distillation.settings import Settings
from edgekit.distillation.sparsity import Zeros


class Adapters(torch.nn.Module):  # type: ignore[misc]
    """``w + a b``, where w is held still and zeros of w that are held stay 0.

    Args:
        network: Whose matrices of at least ``settings.lora_from`` weights get adapters.
        zeros: Of the network.
        settings: The rank.
    """

    def __init__(self, network: GraphNetwork, zeros: Zeros, settings: Settings) -> None:
        super().__init__()
        self._zeros = zeros
        self._numbers: dict[str, int] = {}
        random = torch.Generator().manual_seed(settings.seed)
        if not settings.lora:
            return
        for name, weight in network.weights():
            if weight.ndim != 2 or weight.numel() < settings.lora_from:
                continue
            number = len(self._numbers)
            rank = min(settings.lora, *weight.shape)
            a = torch.randn(weight.shape[0], rank, generator=random) / math.sqrt(rank)
            self.register_parameter(f"a{number}", torch.nn.Parameter(a))
            b = torch.nn.Parameter(torch.zeros(rank, weight.shape[1]))
            self.register_parameter(f"b{number}", b)
            self._numbers[name] = number
            weight.requires_grad_(False)

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def pairs(self) -> Iterator[tuple[str, torch.nn.Parameter, torch.nn.Parameter]]:
        """Yields the name of each adapted weight and its two matrices."""
        for name, number in self._numbers.items():
            yield name, getattr(self, f"a{number}"), getattr(self, f"b{number}")

    def change(self, name: str) -> torch.Tensor | None:
        """Returns what is added to the weight of that name, None where it has no adapter."""
        if name not in self._numbers:
            return None
        number = self._numbers[name]
        change: torch.Tensor = getattr(self, f"a{number}") @ getattr(self, f"b{number}")
        kept = self._zeros.kept(name)
        return change if kept is None else change * kept

    def merge(self, network: GraphNetwork) -> None:
        """Adds the products to the weights, and makes them 0."""
        with torch.no_grad():
            for name, _, b in self.pairs():
                change = self.change(name)
                assert change is not None
                network.weight(name).add_(change)
                b.zero_()
