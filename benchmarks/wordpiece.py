"""Words to the numbers of BERT's vocabulary, as models without upper case take them.

Text is normalized, split at white space and punctuation, and every word cut into the longest pieces that the
vocabulary has, greedily from the left (Devlin et al., https://arxiv.org/abs/1810.04805; Wu et al.,
https://arxiv.org/abs/1609.08144).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekit.data import Sample

_FIRST, _LAST, _UNKNOWN, _PADDING = "[CLS]", "[SEP]", "[UNK]", "[PAD]"
# Letters of a word that is worth cutting into pieces.
_LONGEST_WORD = 100
# Chinese characters are words of their own.
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))


class WordPieces:
    """Cuts text into pieces.

    Args:
        vocabulary: The pieces by number; those inside of a word begin with "##".
        length: Numbers of a text: what is longer is cut off, what is shorter filled up.
    """

    def __init__(self, vocabulary: Sequence[str], length: int) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._length = length

    def read(self, text: str) -> Sample:
        """Returns int64 ``[1, length]`` by the name of the input: the pieces, which places are taken, zeros."""
        pieces = [piece for word in split_words(text) for piece in self._cut(word)]
        known = [_FIRST, *pieces[: self._length - 2], _LAST]
        empty = self._length - len(known)
        ids = [self._numbers[piece] for piece in [*known, *[_PADDING] * empty]]
        return {
            "input_ids": _row(ids),
            "attention_mask": _row([1] * len(known) + [0] * empty),
            "token_type_ids": _row([0] * self._length),
        }

    def _cut(self, word: str) -> list[str]:
        """Returns the pieces of a word, or what stands for one that has none."""
        pieces: list[str] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if mark + word[start:e] in self._numbers), None)
            if end is None:
                return [_UNKNOWN]
            pieces.append(mark + word[start:end])
            start = end
        return pieces or [_UNKNOWN]


def split_words(text: str) -> list[str]:
    """Returns words in lower case without accents, and every sign of punctuation by itself.

    >>> split_words("Café, 2.0!")
    ['cafe', ',', '2', '.', '0', '!']
    """
    spaced = []
    for letter in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(letter)
        if category == "Mn" or (category.startswith("C") and letter not in "\t\n\r"):
            continue
        alone = _is_punctuation(letter, category) or _is_ideograph(letter)
        spaced.append(f" {letter} " if alone else letter)
    return "".join(spaced).split()


def _is_punctuation(letter: str, category: str) -> bool:
    is_ascii_sign = letter.isascii() and letter.isprintable() and not letter.isalnum()
    return category.startswith("P") or (is_ascii_sign and letter != " ")


def _is_ideograph(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in _IDEOGRAPHS)


def _row(numbers: list[int]) -> npt.NDArray[np.int64]:
    return np.array([numbers], np.int64)
