"""Reports with something of everything in them, made up."""

from dataclasses import replace

import numpy as np

from edgekit.agreement import Proportion
from edgekit.findings.parts import compare_parts
from edgekit.findings.picture import encode_png, to_data_uri
from edgekit.report import (
    Accuracy,
    Asked,
    ChangedSample,
    Front,
    Fusion,
    Latency,
    Layer,
    Memory,
    Point,
    Precision,
    Report,
    Size,
    Tflite,
)
from edgekit.timing import Machine, Timing

HOSTILE = "</style></title><script>document.title='taken'</script><img src=x onerror=alert(1)> & \"quotes' [red]\x00"


def make_scores(seed: int = 3, count: int = 400):
    """Returns scores of two networks, 0 or 1, and the right classes of the samples."""
    random = np.random.default_rng(seed)
    answers = random.integers(0, 10, count)
    reference = (random.random(count) < 0.9 - 0.03 * answers).astype(np.float64)
    candidate = np.where(random.random(count) < 0.03, 1 - reference, reference)
    return reference, candidate, answers


def make_report(name: str = "layer", **changes) -> Report:
    """Returns a report whose every name is ``name``, with something of everything."""
    reference, candidate, answers = make_scores()
    subgroups = [f"{name} {index % 3}" for index in range(len(answers))]
    named = answers, np.where(candidate == 1, answers, answers + 1)
    picture = encode_png(np.arange(28 * 28, dtype=np.uint32).astype(np.uint8).reshape(28, 28, 1))
    report = Report(
        model=name,
        source_digest="0123456789abcdef" * 4,
        target=name,
        isa="x86_avx2",
        batch=1,
        calibration=name,
        ranges="mse",
        machine=Machine(name, 2, "Linux x86_64", "3.11"),
        versions={"edgekit": "0.1.0", name: name},
        sizes=[Size("float, ONNX", 4_000_000), Size("int8, native", 1_100_000)],
        latencies=[
            Latency("float, ONNX Runtime", Timing(2.5, 2.4, 2.9, 300, 1)),
            Latency("int8, native", Timing(1.0, 0.9, 1.2, 300, 1)),
        ],
        memory=Memory(1_100_000, 200_000, 190_000, 8_000, 6_000),
        float_memory=Memory(4_000_000, 800_000, 700_000, 8_000, 6_000),
        layers=[
            Layer(
                f"{name}/{index}/" + "block/" * 12,
                "Conv",
                "gemm_u8_s8c_u8_x86_avx2",
                (1, 28, 28, 32),
                microseconds=10.0 + index,
                int8_microseconds=10.0,
                float_microseconds=20.0,
                format="float32" if index % 5 == 4 else "int8",
                reason=f"{name}: left float32 for accuracy" if index % 5 == 4 else "",
                noise_db=40.0 - index,
            )
            for index in range(15)
        ],
        precision=Precision(("native",), "mixed", "measured", 0.8, [name], {"int8": 1.0}),
        onnx_arithmetic="int8",
        fusion=Fusion(name, {"Conv": 3}, [name]),
        tflite=Tflite("int8", name, {"CONV_2D": 3}, 0, 3, {name: 1}, [name]),
        accuracy=Accuracy(float(reference.mean()), float(candidate.mean())),
        snr_db=31.4,
        agreement=Proportion(63, 64),
        notes=[name, f"SLOWER THAN FLOAT: {name}"],
        asked=[
            Asked("max_drop", "0.01", "0.005, at most 0.02", "undecided", name),
            Asked("max_ms", "5 ms", "1 ms", "kept", name),
            Asked("max_mb", "1 MB", "1.3 MB", "broken", name),
            Asked("max_ms", "5 ms", "", "not measured", name),
        ],
        evaluation=compare_parts(
            reference,
            candidate,
            measure=f"share of {name}",
            named=named,
            answers=answers,
            labels=[f"{name} {index}" for index in range(8)],
            groups={name: subgroups},
        ),
        changed=[
            ChangedSample(index, "evaluation", name, name, name, 20.0 + index, to_data_uri(picture))
            for index in range(6)
        ],
        front=Front(
            "accuracy",
            name,
            [
                Point(f"{name} {i}", 1.0 + 0.2 * i, 900_000 + 100_000 * i, 0.9 + 0.004 * i, i == 4)
                for i in range(9)
            ]
            + [Point(name, 2.0, 1_500_000, 0.89, on_front=False)],
        ),
        noise=name,
    )
    return replace(report, **changes)
