"""The network's own dropout, kept on when predicting, with each mask held fixed over all rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.errors import Unsupported, UsageError
from kokkiri.herd import Herd, herd
from kokkiri.numerics.random import key, uniforms
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even

ROWS, MASKS = 8, 16  # of the look that a network is given before its masks are trusted
CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # drop whole channels: (B, C, ...)
STRANGE = (nn.AlphaDropout, nn.FeatureAlphaDropout)  # do not set to zero
RATE = 0.1  # of the dropout of networks that are made for this posterior


@dataclass(frozen=True)
class Dropout:
    """q(θ) = the trained weights with units dropped: each draw is the network under one mask, a function of its inputs.

    The network is trained with its own dropout, stopped as a `Point` is; predictions average over masks, each fixed for
    all rows, so that a draw is a function and rows may be predicted together. A mask is a function of the seed and the
    number of the draw. Training with dropout and a Normal prior raises a bound for such a q (Gal & Ghahramani 2016,
    "Dropout as a Bayesian approximation", section 3). Its width is set by the rate, not by the data, and it has no
    evidence. size: networks, from starts of their own; draws take them in turn.

    Dropout must be modules: what a network's forward drops by torch.nn.functional is seen by nobody, and left out.

    >>> import kokkiri as kk
    >>> data = kk.read("breast-cancer")
    >>> net = kk.networks.MLP(data.inputs, [16], 1, dropout=0.2)
    >>> post = kk.fit(data, net, kk.Bernoulli(), posterior=Dropout(), steps=100, progress=False)
    >>> bool((kk.predict(post, data).epistemic > 0).all())
    True
    """

    size: int = 1

    def __post_init__(self) -> None:
        """Refuses what means nothing."""
        if self.size < 1:
            raise UsageError(
                f"Dropout(size={self.size})",
                needs="a whole number of at least 1",
                found=str(self.size),
                fix="Dropout()",
            )

    @property
    def folds(self) -> int:
        """None: a share of the rows stops the training."""
        return 0

    @property
    def stops(self) -> bool:
        """Held-out rows stop the training."""
        return True

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas; a single one keeps the weights of a network that is handed in.

        Raises UsageError for networks without dropout, Unsupported for dropout that cannot be held fixed.
        """
        lone = self.size == 1 and isinstance(make, nn.Module)
        models = herd(make) if lone else herd(make, seed=member_seeds(seed, self.size))
        _with_masks(models.network)
        return models

    def prepare(self, run: Run) -> Run:
        """As it is."""
        return run

    def finish(self, trained: Trained) -> Approximation:
        """The trained networks, whose draws are masks."""
        models = trained.herd
        x = trained.run.data.batch(torch.arange(min(ROWS, len(trained.run.data)))).x
        _check(masked(models[0], MASKS, seed=trained.run.plan.seed), x)
        return Approximation(
            models, even(len(models)), facts={"draws": "dropout"},
            exact="approximate: the network under masks of its own dropout",
        )  # fmt: skip


class Masked(nn.Module):
    """A dropout module whose mask is the same for all rows, a function of the buffer `draw` and of the call.

    A module that is called several times in a pass has a mask for each call; whoever owns the network resets `calls`.
    """

    draw: Tensor

    def __init__(self, rate: float, *, channels: bool) -> None:
        super().__init__()
        self.rate, self.channels = rate, channels
        self.calls = 0
        self.register_buffer("draw", torch.zeros((), dtype=torch.int64))

    def forward(self, h: Tensor) -> Tensor:
        """(B, ...) -> (B, ...): zero where the mask is, the rest over 1 - rate."""
        shape = h.shape[1:2] if self.channels else h.shape[1:]
        number = uniforms(torch.arange(shape.numel()), 1, int(self.draw), "mask", self.calls)
        self.calls += 1
        kept = (number[:, 0] >= self.rate).to(h) / max(1 - self.rate, torch.finfo(h.dtype).tiny)
        kept = kept.reshape(*shape, *[1] * (h.ndim - 2)) if self.channels else kept.reshape(shape)
        return h * kept

    def extra_repr(self) -> str:
        """For print."""
        return f"rate={self.rate}" + (", channels" if self.channels else "")


def masked(models: Herd, n: int, *, seed: int) -> Herd:
    """`n` networks under masks of their own, drawn from R networks in turn: functions of their inputs, not noise.

    Buffers named `….draw` hold what each mask is a function of.

    >>> from kokkiri.herd import herd
    >>> net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    >>> drawn = masked(herd(net), 3, seed=0)
    >>> x = torch.randn(4, 2)
    >>> drawn(x).shape, torch.equal(drawn(x), drawn(x)), torch.allclose(drawn(x)[:, :2], drawn(x[:2]))
    (torch.Size([3, 4, 1]), True, True)
    """
    network = _with_masks(models.network)
    names = [name for name, m in network.named_modules() if isinstance(m, Masked)]
    rows = replace(models, hyper={})[[i % len(models) for i in range(n)]]
    numbers = lambda k: torch.tensor([key(seed, "draw of a mask", k, i) >> 1 for i in range(n)])
    draws = {f"{name}.draw": numbers(k) for k, name in enumerate(names)}
    return replace(rows, network=network, buffers={**rows.buffers, **draws}, axes={"draw": n})


def _with_masks(network: nn.Module) -> nn.Module:
    """A copy with every dropout module replaced, and the masks of a pass begun anew before each."""
    network = copy.deepcopy(network)
    made: dict[int, Masked] = {}
    for name, module in list(network.named_modules()):
        inside = isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0
        if isinstance(module, STRANGE) or inside:
            raise Unsupported(
                f"the dropout of {name or 'the network'} ({type(module).__name__}) cannot be held fixed over rows",
                needs="nn.Dropout, nn.Dropout1d, nn.Dropout2d or nn.Dropout3d as modules of their own",
                found=f"{type(module).__name__}, which drops inside", fix="its dropout=0.0, and nn.Dropout after it",
            )  # fmt: skip
        # all names of a module, also the second of one that is used twice: named_children would pass it over
        for child, part in module._modules.items():  # ruff: ignore[private-member-access]
            if isinstance(part, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d) and part.p:
                made.setdefault(id(part), Masked(float(part.p), channels=isinstance(part, CHANNELS)))
                setattr(module, child, made[id(part)])
    if not made:
        raise UsageError(
            f"{type(network).__name__} has no dropout to draw from", needs="nn.Dropout, of a rate above 0",
            found="no such module", fix="kk.networks.MLP(…, dropout=0.1), or kk.Laplace()",
        )  # fmt: skip
    network.register_forward_pre_hook(_restart)
    return network


def _restart(network: nn.Module, _arguments: Any) -> None:
    for module in network.modules():
        if isinstance(module, Masked):
            module.calls = 0


def _check(drawn: Herd, x: Any) -> None:
    """Whether every mask takes part, and no row feels where it stands among the others. Raises Unsupported."""
    module = drawn.module()
    with torch.no_grad():
        module(x)
    idle = [name for name, m in module.named_modules() if isinstance(m, Masked) and not m.calls]
    if idle:
        raise Unsupported(
            f"the dropout of {', '.join(idle[:3])} takes no part in a pass", needs="modules that are called",
            found="torch's fused code, or a module that is not used", fix="remove them, or kk.Laplace()",
        )  # fmt: skip
    if not isinstance(x, Tensor):
        return
    whole, turned = drawn(x), drawn(x.flip(0)).flip(1)
    if not torch.allclose(whole, turned, rtol=1e-3, atol=1e-5 * float(whole.abs().amax())):
        raise Unsupported(
            "under one mask the answer for a row depends on the rows beside it", needs="the rows on the first axis",
            found="dropout on tensors whose first axis is another", fix="batch_first=True, or kk.Laplace()",
        )  # fmt: skip
