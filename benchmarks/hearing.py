"""How well networks tell speech from noise, and a word from others: speech that Debian's flite speaks."""

from __future__ import annotations

import os
import subprocess
import tempfile
import wave
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgekit.session import Session
from find_data import find_data
from intervals import Figure, area_under_curve
from photos import find_package
from speech import CONTEXT, FRAME, make_spectrogram

RATE = 16000
_VOICES = ("awb", "kal16", "rms", "slt")
_SENTENCES = (
    "the birch canoe slid on the smooth planks",
    "glue the sheet to the dark blue background",
    "these days a chicken leg is a rare dish",
    "the juice of lemons makes fine punch",
    "four hours of steady work faced us",
    "a large size in stockings is hard to sell",
)
# The word that openWakeWord's alexa network waits for, and what sounds nothing or a little like it.
_WORD = "alexa"
_OTHERS = (
    *_SENTENCES,
    "a lexicon",
    "alex is here",
    "electric",
    "relax now",
    "hey there",
    "computer",
)
# How slowly clips are spoken.
_STRETCHES = (0.85, 0.925, 1.0, 1.075, 1.15, 1.225, 1.3, 1.375)
# How fast clips are played, which makes voices higher or lower: other speakers, as it were.
_SPEEDS = (0.85, 0.925, 1.0, 1.075, 1.15, 1.225)
_OWN_SPEED = (1.0,)
# Of clips that no figure is measured on.
_OTHER_SPEEDS = (0.8875, 0.9625, 1.0375, 1.1125, 1.1875, 0.8625, 0.9375, 1.0125, 1.0875, 1.1625)
_OTHER_SENTENCES = (
    "the boy was there when the sun rose",
    "a rod is used to catch pink salmon",
    "the source of the huge river is the clear spring",
    "kick the ball straight and follow through",
    "help the woman get back to her feet",
    "a pot of tea helps to pass the evening",
)
_SEED, _OTHER_SEED = 8, 9
_NOISE_DB = (20.0, 5.0)
# Of sentences that are each spoken in all stretches.
_MORE_NOISE_DB = (20.0, 15.0, 10.0, 5.0, 0.0)
# Of clips with a word and without.
_CLIP_NOISE_DB = (20.0, 15.0, 10.0, 5.0)
# Silence around a sentence, in seconds.
_PAUSE = 1.0
# Of speech: what lies so far below its loudest frame is neither speech nor a pause.
_QUIET_DB = 30.0
_MELS, _EMBEDDINGS, _STEP = 76, 16, 8

Sound = npt.NDArray[np.float32]


def measure_voice(session: Session, limit: int | None) -> list[Figure]:
    """Returns the area under the curve of silero-vad's frames: of sentences in noise, against pauses."""
    return [_measure_voice(session, _noisy_sentences(_NOISE_DB), limit)]


def measure_other_voice(session: Session, limit: int | None) -> float:
    """Returns what `measure_voice` does, of other sentences."""
    spoken = _noisy_sentences(_NOISE_DB, sentences=_OTHER_SENTENCES, seed=_OTHER_SEED)
    return _measure_voice(session, spoken, limit).value


def _measure_voice(
    session: Session, spoken: Iterable[tuple[Sound, Sound]], limit: int | None
) -> Figure:
    scores: dict[bool, list[float]] = {True: [], False: []}
    for clean, noisy in islice(spoken, limit):
        for is_speech, score in _listen(session, clean, noisy):
            scores[is_speech].append(score)
    return area_under_curve("area under curve", scores[True], scores[False], "frames")


def score_voice(session: Session) -> npt.NDArray[np.float64]:
    """Returns of each sentence in noise the share of frames that silero-vad tells right from a half on."""
    return np.array(
        [
            np.mean([is_speech == (score >= 0.5) for is_speech, score in heard])
            for heard in (
                list(_listen(session, clean, noisy))
                for clean, noisy in _noisy_sentences(_MORE_NOISE_DB, _STRETCHES)
            )
        ],
        np.float64,
    )


def measure_wake_word(session: Session, limit: int | None) -> list[Figure]:
    """Returns the area under the curve of clips with the word against others, by openWakeWord's last stage."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    for is_word, score in _wait_for_word(session, _SPEEDS, limit):
        scores[is_word].append(score)
    return [area_under_curve("area under curve", scores[True], scores[False], "clips")]


def measure_other_wake_word(session: Session, limit: int | None) -> float:
    """Returns what `measure_wake_word` does, of clips that are played at other speeds, in other noise."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    for is_word, score in _wait_for_word(session, _OTHER_SPEEDS, limit, _OTHER_SEED):
        scores[is_word].append(score)
    return area_under_curve("area under curve", scores[True], scores[False], "clips").value


def score_other_wake_word(session: Session, limit: int | None) -> npt.NDArray[np.float64]:
    """Returns 1 for each pair of a clip with the word and one without of which the former scores higher, else 0."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    for is_word, score in _wait_for_word(session, _OTHER_SPEEDS, limit, _OTHER_SEED):
        scores[is_word].append(score)
    count = min(map(len, scores.values()))
    order = np.random.default_rng(_OTHER_SEED).permutation(count)
    positive, negative = np.array(scores[True][:count]), np.array(scores[False])[order]
    return (positive > negative) + (positive == negative) / 2


def score_wake_word(session: Session) -> npt.NDArray[np.float64]:
    """Returns 1 for each clip of which openWakeWord says rightly whether it has the word, else 0."""
    heard = _wait_for_word(session, _OWN_SPEED)
    return np.array([is_word == (score >= 0.5) for is_word, score in heard], np.float64)


def _listen(session: Session, clean: Sound, noisy: Sound) -> Iterator[tuple[bool, float]]:
    """Yields of each frame whether it is speech, and silero-vad's chance of it; what is nearly silent is left out."""
    state = np.zeros((2, 1, 128), np.float32)
    loud = [_power(clean[start : start + FRAME]) for start in _frames(clean)]
    floor = max(loud) * 10 ** (-_QUIET_DB / 10)
    for start, power in zip(_frames(noisy), loud, strict=True):
        frame = noisy[start - CONTEXT : start + FRAME][None]
        answer = session.run({"input": frame, "state": state})
        state = answer["stateN"]
        if power == 0 or power >= floor:
            yield power > 0, float(answer["output"].reshape(-1)[0])


def _wait_for_word(
    session: Session, speeds: tuple[float, ...], limit: int | None = None, seed: int = _SEED
) -> Iterator[tuple[bool, float]]:
    """Yields of each clip whether it has the word, and the largest chance of it."""
    models = find_package("openwakeword") / "resources" / "models"
    last = onnxruntime.InferenceSession(
        str(models / "alexa_v0.1.onnx"), providers=["CPUExecutionProvider"]
    )
    (given,) = last.get_inputs()
    for is_word, spectra in _read_clips(speeds, limit, seed):
        starts = range(0, len(spectra) - _MELS + 1, _STEP)
        embeddings = np.stack(
            [
                session.run({"input_1": spectra[s : s + _MELS][None, :, :, None]})["conv2d_19"]
                for s in starts
            ]
        ).reshape(len(starts), -1)
        windows = range(len(starts) - _EMBEDDINGS + 1)
        yield (
            is_word,
            max(
                float(last.run(None, {given.name: embeddings[w : w + _EMBEDDINGS][None]})[0][0, 0])
                for w in windows
            ),
        )


def _noisy_sentences(
    noise_db: tuple[float, ...],
    stretches: tuple[float, ...] = _OWN_SPEED,
    sentences: tuple[str, ...] = _SENTENCES,
    seed: int = 7,
) -> Iterator[tuple[Sound, Sound]]:
    """Yields sentences between pauses, clean and in noise."""
    random = np.random.default_rng(seed)
    pause = np.zeros(int(_PAUSE * RATE), np.float32)
    for sentence, voice, stretch in product(sentences, _VOICES, stretches):
        clean = np.concatenate([pause, speak(sentence, voice, stretch), pause])
        for decibels in noise_db:
            yield clean, _add_noise(clean, decibels, random)


@cache
def _read_clips(
    speeds: tuple[float, ...], limit: int | None, seed: int
) -> list[tuple[bool, npt.NDArray[np.float32]]]:
    """Returns whether a clip holds the word, and its mel spectra, of all clips."""
    clips = islice(_clips(speeds, seed), limit)
    return [(is_word, make_spectrogram(sound)) for is_word, sound in clips]


def _clips(speeds: tuple[float, ...], seed: int) -> Iterator[tuple[bool, Sound]]:
    """Yields clips with the word, and as many others without: those of one speech follow each other."""
    random = np.random.default_rng(seed)
    before, behind = np.zeros(int(1.5 * RATE), np.float32), np.zeros(RATE // 2, np.float32)
    places = product(speeds, _STRETCHES, _VOICES)
    for index, (speed, stretch, voice) in enumerate(places):
        for is_word, text in ((True, _WORD), (False, _OTHERS[index % len(_OTHERS)])):
            spoken = _play(speak(text, voice, stretch), speed)
            for noise in _CLIP_NOISE_DB:
                clip = np.concatenate([before, spoken, behind])
                yield is_word, _add_noise(clip, noise, random)


def _play(sound: Sound, speed: float) -> Sound:
    """Returns ``sound`` so many times as fast and as high, by linear interpolation."""
    times = np.arange(0, len(sound) - 1, speed)
    return np.interp(times, np.arange(len(sound)), sound).astype(np.float32)


@cache
def speak(text: str, voice: str, stretch: float = 1.0) -> Sound:
    """Returns ``text`` as flite speaks it, float32 in [-1, 1) at 16 kHz.

    Raises:
        FileNotFoundError: flite is not there.
    """
    program = find_data("flite", "usr/bin/flite")
    folder_of = f"usr/lib/{os.uname().machine}-linux-gnu"
    libraries = find_data("libflite1", f"{folder_of}/libflite.so.1").parent
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["--setf", f"duration_stretch={stretch}", "-t", text, "-o", path]
        subprocess.run(
            [program, "-voice", voice, *options],
            check=True,
            capture_output=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        )
        with wave.open(str(path)) as file:
            if file.getframerate() != RATE or file.getnchannels() != 1:
                raise ValueError(f"flite's voice {voice} does not speak at {RATE} Hz")
            data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (data / 32768).astype(np.float32)


def _add_noise(sound: Sound, decibels: float, random: np.random.Generator) -> Sound:
    """Returns ``sound`` with white noise so many decibels below its mean power where it is not silent."""
    power = float(np.square(sound[sound != 0]).mean())
    noise = random.normal(0, np.sqrt(power * 10 ** (-decibels / 10)), len(sound))
    return (sound + noise).astype(np.float32)


def _frames(sound: Sound) -> range:
    return range(CONTEXT, len(sound) - FRAME, FRAME)


def _power(frame: Sound) -> float:
    return float(np.square(frame).mean())
