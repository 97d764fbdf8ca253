"""Writes what LiteRT's task tools read: how a picture becomes the input, and what the outputs are called.

The block ``TFLITE_METADATA`` is a FlatBuffers table of its own (``metadata_schema.fbs`` of tflite-support, identifier
M001); labels are a file in a ZIP archive behind the model, as that schema says.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flatbuffers

METADATA = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
# Numbers of enumerations and unions in the schema.
_IMAGE_PROPERTIES, _NORMALIZATION, _TENSOR_AXIS_LABELS = 2, 1, 2
_COLORS = {"RGB": 1, "L": 2}
# A ZIP entry's earliest date, so that the same network gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class About:
    """What a file says of itself.

    Attributes:
        name: The model's.
        labels: Of the classes of the first output; empty where they are not known.
        mean: Subtracted from the pixels of the first input, one number or one a channel; empty where it is no picture.
        std: What they are divided by then.
        channels: "RGB", "L" (grey), or another order that the schema has no word for.
    """

    name: str
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: str = ""


def write_block(about: About, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Returns the block of metadata for tensors of these names, in the file's order."""
    builder = flatbuffers.Builder(1024)
    first, *others = outputs
    tensors = [
        _vector(
            builder,
            [_input(builder, name, about if i == 0 else None) for i, name in enumerate(inputs)],
        ),
        _vector(
            builder,
            [
                _tensor(builder, first, files=[LABELS_FILE] if about.labels else []),
                *(_tensor(builder, name) for name in others),
            ],
        ),
    ]
    subgraph = _table(builder, {2: _offset(tensors[0]), 3: _offset(tensors[1])})
    subgraphs = _vector(builder, [subgraph])
    model = _table(
        builder,
        {
            0: _offset(builder.CreateString(about.name)),
            3: _offset(subgraphs),
            7: _offset(builder.CreateString(_PARSER_VERSION)),
        },
    )
    builder.Finish(model, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def append_labels(data: bytes, labels: Sequence[str]) -> bytes:
    """Returns a file with the labels behind it, a line each."""
    stream = io.BytesIO()
    stream.write(data)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        text = "".join(f"{label}\n" for label in labels)
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, _DATE), text)
    return stream.getvalue()


_Field = Callable[[flatbuffers.Builder, int], None]


def _offset(offset: int) -> _Field:
    return lambda builder, slot: builder.PrependUOffsetTRelativeSlot(slot, offset, 0)


def _byte(value: int) -> _Field:
    return lambda builder, slot: builder.PrependInt8Slot(slot, value, 0)


def _table(builder: flatbuffers.Builder, fields: dict[int, _Field]) -> int:
    """Adds a table with these fields by their places in the schema; what they refer to is there already."""
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, add in fields.items():
        add(builder, slot)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())


def _tensor(
    builder: flatbuffers.Builder,
    name: str,
    files: Sequence[str] = (),
    content: int = 0,
    units: Sequence[int] = (),
) -> int:
    fields = {0: _offset(builder.CreateString(name))}
    if content:
        fields[3] = _offset(content)
    if units:
        fields[4] = _offset(_vector(builder, units))
    if files:
        tables = [
            _table(builder, {0: _offset(builder.CreateString(file)), 2: _byte(_TENSOR_AXIS_LABELS)})
            for file in files
        ]
        fields[6] = _offset(_vector(builder, tables))
    return _table(builder, fields)


def _input(builder: flatbuffers.Builder, name: str, about: About | None) -> int:
    """Adds an input, a picture with its normalization where ``about`` says so."""
    if about is None or not about.mean:
        return _tensor(builder, name)
    options = _table(
        builder, {0: _offset(_floats(builder, about.mean)), 1: _offset(_floats(builder, about.std))}
    )
    unit = _table(builder, {0: _byte(_NORMALIZATION), 1: _offset(options)})
    content = 0
    if about.channels in _COLORS:
        image = _table(builder, {0: _byte(_COLORS[about.channels])})
        content = _table(builder, {0: _byte(_IMAGE_PROPERTIES), 1: _offset(image)})
    return _tensor(builder, name, content=content, units=[unit])
