"""Counter-based randomness: every random number is a function of (seed, purpose, counters), and of nothing else.

So nothing needs saving but integers, a run that was cut goes on to the same bits, and no global state is touched.
Permutations come from numpy's Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); per-datum
uniforms from the finaliser of splitmix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators"), which
hashes a whole batch of counters in a few vector operations.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, splitmix64's increment
_MASK = (1 << 64) - 1


def key(seed: int, purpose: str, *counters: int) -> int:
    """A 64-bit key that is a fixed function of its arguments on every machine.

    >>> key(0, "order", 3) == key(0, "order", 3), key(0, "order", 3) == key(0, "order", 4)
    (True, False)
    """
    text = f"{int(seed)}/{purpose}/" + "/".join(str(int(c)) for c in counters)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def philox(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A numpy generator of its own for one purpose."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, *counters)))


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A torch generator of its own for one purpose."""
    return torch.Generator().manual_seed(key(seed, purpose, *counters) >> 1)


def permutation(n: int, seed: int, purpose: str, *counters: int) -> Tensor:
    """A random order of 0 … n-1.

    >>> sorted(permutation(5, 0, "order", 1).tolist())
    [0, 1, 2, 3, 4]
    """
    return torch.from_numpy(philox(seed, purpose, *counters).permutation(n))


def uniforms(index: Tensor, columns: int, seed: int, purpose: str, *counters: int) -> Tensor:
    """(B,) integers -> (B, columns) float32 uniforms in [0, 1): row i depends on index[i], not on its neighbours.

    >>> a, b = uniforms(torch.tensor([7, 3]), 2, 0, "augment", 1), uniforms(torch.tensor([3]), 2, 0, "augment", 1)
    >>> torch.equal(a[1], b[0])
    True
    """
    base = np.uint64(key(seed, purpose, *counters))
    rows = index.detach().cpu().numpy().astype(np.uint64)[:, None]
    lanes = np.arange(1, columns + 1, dtype=np.uint64)[None, :]
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        z = _mix(_mix(base + rows * np.uint64(_GOLDEN)) + lanes * np.uint64(_GOLDEN))
    return torch.from_numpy((z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))


def step_seed(base: int, step: int, replica: int) -> int:
    """The seed of one step of one replica: splitmix64 of integers, cheap enough for every step."""
    z = (base + step * _GOLDEN + replica * 0xD1B54A32D192ED03) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 1


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
