"""Writes operators that nothing downstream holds whole as the operators by which ONNX defines them."""

from __future__ import annotations

import logging

import onnx
import onnx.inliner

logger = logging.getLogger(__name__)

# Operators with a definition in simpler ones. Others that have one, such as Gelu or HardSwish, are held whole.
EXPANDED = frozenset(
    {
        "AffineGrid",
        "Attention",
        "CastLike",
        "CausalConvWithState",
        "CenterCropPad",
        "GroupNormalization",
        "LogSoftmax",
        "MeanVarianceNormalization",
        "NegativeLogLikelihoodLoss",
        "ReduceL1",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "RotaryEmbedding",
        "Shrink",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
        "Swish",
    }
)


def expand_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Returns ``proto`` without the operators ``EXPANDED``, as far as its operator set defines them.

    Args:
        proto: A valid model whose values have types: some definitions depend on them.
    """
    if not any(node.op_type in EXPANDED and _is_standard(node) for node in proto.graph.node):
        return proto
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for node in result.graph.node:
        if node.op_type in EXPANDED and _is_standard(node):
            _write_defaults(node, versions.get("", versions.get("ai.onnx", 1)))
    wanted = [("", name) for name in sorted(EXPANDED)]
    try:
        return onnx.inliner.inline_selected_functions(result, wanted, False, True)
    except RuntimeError as error:
        # It cannot expand a definition that depends on the type of an optional input that a node leaves out.
        logger.info("definitions were not expanded: %s", error)
        return proto


def _write_defaults(node: onnx.NodeProto, version: int) -> None:
    """Gives ``node`` the attributes that it leaves out: a definition's references to them would be dropped."""
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            node.attribute.append(attribute.default_value)


def _is_standard(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx")
