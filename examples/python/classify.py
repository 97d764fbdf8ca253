"""Classifies one input with a bundle's network: python classify.py BUNDLE INPUT.npy [OUTPUT.npy]"""

import sys
from pathlib import Path

import numpy as np

import edgekit


def main(bundle: Path, input_file: Path, output_file: Path | None = None) -> None:
    session = edgekit.load(bundle)
    scores = next(iter(session.run(np.load(input_file)).values()))
    for place in np.argsort(-scores[0], kind="stable")[:5]:
        print(place, f"{scores[0][place]:g}")
    if output_file is not None:
        np.save(output_file, scores)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
