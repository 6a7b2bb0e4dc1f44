"""Heads of folds that leave no row of a level: finite whatever the rows, and nothing is claimed of that level."""

import pytest
import torch

from kokkiri.numerics.heads import Replicates, freeze, precisions, ridges, solve

N, LEVELS = 48, 3
FOLD = torch.arange(N) % 4


def rows(case, seed):
    """Treatments, outcomes and weights, in which some fold or all lack the last level."""
    rng = torch.Generator().manual_seed(seed)
    y = 5 + torch.randn(N, generator=rng, dtype=torch.float64)
    w = 0.1 + torch.rand(N, generator=rng, dtype=torch.float64)
    t = torch.randint(0, LEVELS - 1, (N,), generator=rng)
    if case == "all in one fold":
        t[FOLD == 0] = LEVELS - 1
    elif case == "one row":
        t[0] = LEVELS - 1
    elif case == "weighed nothing":
        t[FOLD == 0] = LEVELS - 1
        w[t == LEVELS - 1] = 0.0
    elif case == "the same outcome":
        t[FOLD == 0], y = LEVELS - 1, torch.full_like(y, 5.0)
    elif case == "no other level outside the fold":
        t = torch.where(FOLD == 0, LEVELS - 1, 0)
    return t, y, w  # "nowhere": no row has it


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("case", ["all in one fold", "one row", "nowhere", "weighed nothing", "the same outcome",
                                  "no other level outside the fold"])  # fmt: skip
def test_no_number_is_lost_where_a_fold_leaves_no_row_of_a_level(case, shared):
    for seed in range(5):
        t, y, w = rows(case, seed)
        x = torch.randn(N, 2, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
        frozen = freeze(x if shared else x.expand(4, -1, -1), FOLD)
        prior = precisions(frozen, LEVELS, t, y, w)
        assert all(bool((p.isfinite() & (p > 0)).all()) for p in prior)
        lines = ridges(frozen, LEVELS, t, y, w)
        assert bool(lines.isfinite().all())
        unseen = (w * (t == LEVELS - 1) * (FOLD != 0)).sum() == 0
        assert not unseen or not bool(lines[0, LEVELS - 1].any())
        noise = torch.randn(3, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for extra in (None, noise):
            heads = solve(frozen, LEVELS, Replicates(t[None], y[None], w[None], extra), prior)
            assert bool(heads.outcome.isfinite().all())
            assert float(heads.outcome.abs().max()) < 100.0
            assert torch.allclose(heads.propensity.sum(1), torch.ones((), dtype=torch.float64), atol=1e-10, rtol=0)
