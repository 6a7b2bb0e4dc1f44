"""Make the data sets that ship inside the package again, from scikit-learn and from $KOKKIRI_DATA.

KOKKIRI_DATA=… python benchmarks/make_embedded.py [FOLDER]     (FOLDER: where to write; default: into the package)

The bytes do not depend on the machine or the day (another zlib may pack the .gz differently), so that the digests in
embedded/digests.txt, which are printed here, stay what they are.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

PACKAGE = Path(__file__).parents[1] / "src/kokkiri/data/embedded"

# Yeh 1998, in the order of the published file; kg per m³ of mixture, days, MPa
CONCRETE = ["cement", "slag", "fly_ash", "water", "superplasticizer"]
CONCRETE += ["coarse_aggregate", "fine_aggregate", "age", "strength"]

# Charig, Webb, Payne & Wickham 1986: (treatment, stone size) -> (recovered, patients)
KIDNEY_STONES = {
    ("A", "small"): (81, 87),
    ("A", "large"): (192, 263),
    ("B", "small"): (234, 270),
    ("B", "large"): (55, 80),
}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 0x08, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def table(header: list[str], rows) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def digits() -> dict[str, bytes]:
    data = load_digits()
    assert np.array_equal(data.images, data.images.astype(np.uint8))
    return {"digits-images-idx3-ubyte.gz": idx(data.images), "digits-labels-idx1-ubyte.gz": idx(data.target)}


def breast_cancer() -> dict[str, bytes]:
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    rows = ([*map(repr, x.tolist()), data.target_names[y]] for x, y in zip(data.data, data.target, strict=True))
    return {"breast-cancer.csv": table([*names, "diagnosis"], rows)}


def concrete() -> dict[str, bytes]:
    folder = Path(os.environ["KOKKIRI_DATA"], "uci")
    body = gzip.decompress((folder / "concrete.csv.gz").read_bytes()).partition(b"\n")[2]
    splits = json.loads(gzip.decompress((folder / "concrete.test-splits.json.gz").read_bytes()))
    return {
        "concrete.csv": ",".join(CONCRETE).encode() + b"\n" + body,
        "concrete.test-splits.json": json.dumps(splits, separators=(",", ":")).encode() + b"\n",
    }


def kidney_stones() -> dict[str, bytes]:
    rows = [
        (treatment, size, "yes" if i < recovered else "no")
        for (treatment, size), (recovered, patients) in KIDNEY_STONES.items()
        for i in range(patients)
    ]
    return {"kidney-stones.csv": table(["treatment", "size", "recovered"], rows)}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (digits() | breast_cancer() | concrete() | kidney_stones()).items():
        (folder / name).write_bytes(content)
        print(f"{hashlib.sha256(content).hexdigest()} {len(content):>9} embedded/{name}")


if __name__ == "__main__":
    main()
