"""The list of contestants."""

from __future__ import annotations

from edgekit.peers.contestant import Contestant
from edgekit.peers.litert import LiteRt
from edgekit.peers.mnn import Mnn
from edgekit.peers.native import Native
from edgekit.peers.ncnn import Ncnn
from edgekit.peers.onnxruntime import OnnxRuntime
from edgekit.peers.openvino import OpenVino

OURS: Contestant = Native("int8")
REFERENCE: Contestant = OnnxRuntime("float")

CONTESTANTS: tuple[Contestant, ...] = (
    OURS,
    OnnxRuntime("int8"),
    REFERENCE,
    OpenVino("int8"),
    OpenVino("float"),
    LiteRt("int8"),
    LiteRt("float"),
    Ncnn("float"),
    Mnn("int8"),
    Mnn("float"),
)


def find_contestant(name: str) -> Contestant:
    """Returns the contestant of that name.

    Raises:
        KeyError: There is none.
    """
    return {contestant.name: contestant for contestant in CONTESTANTS}[name]
