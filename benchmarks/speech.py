"""Reads recorded speech as samples for networks that listen."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import onnxruntime

from edgekit.data import Sample
from find_data import find_data
from photos import find_package

COUNT = 64
FRAME, CONTEXT = 512, 64


def read_frames(_folder: Path) -> list[Sample]:
    """Returns what silero-vad meets while it listens: 64 samples of context and 512 new ones, and its own state."""
    session = _open(find_package("silero_vad") / "data" / "silero_vad_openvino_16k.onnx")
    sound = read_sound()
    state = np.zeros((2, 1, 128), np.float32)
    samples: list[Sample] = []
    frames = range(CONTEXT, len(sound) - FRAME, FRAME)
    for start in frames:
        frame = sound[start - CONTEXT : start + FRAME][None]
        samples.append({"input": frame, "state": state})
        _, state = session.run(["output", "stateN"], samples[-1])
    return samples[:: max(len(samples) // COUNT, 1)][:COUNT]


def read_spectrograms(_folder: Path) -> list[Sample]:
    """Returns windows of 76 mel spectra as openWakeWord's own first stage makes them: float32 [1, 76, 32, 1]."""
    spectra = make_spectrogram(read_sound()[: 16000 * 30])
    starts = np.linspace(0, len(spectra) - 76, COUNT).astype(int)
    return [{"input_1": spectra[start : start + 76][None, :, :, None]} for start in starts]


def make_spectrogram(sound: np.ndarray) -> np.ndarray:
    """Returns the mel spectra of sound at 16 kHz, float32 ``[n, 32]``."""
    session = _open(find_package("openwakeword") / "resources" / "models" / "melspectrogram.onnx")
    (spectra,) = session.run(["output"], {"input": (sound * 32768)[None]})
    return (spectra / 10 + 2).reshape(-1, 32)


def _open(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def read_sound() -> np.ndarray:
    """Returns speech at 16 kHz, float32 in [-1, 1)."""
    folder = find_data("pocketsphinx-testdata", "usr/share/pocketsphinx/test/data")
    pieces = []
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as file:
            if file.getframerate() == 16000 and file.getnchannels() == 1:
                pieces.append(np.frombuffer(file.readframes(file.getnframes()), np.int16))
    return (np.concatenate(pieces) / 32768).astype(np.float32)
