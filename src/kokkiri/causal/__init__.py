"""What would happen if we acted: graphs, identification, effects, refutation, sensitivity."""

from kokkiri.causal.adjustment import (
    AdjustmentSet,
    adjustment_sets,
    check_adjustment,
    is_adjustment_set,
    optimal_adjustment_set,
)
from kokkiri.causal.balance import Balance, balance_of
from kokkiri.causal.bounds import Bounds
from kokkiri.causal.effect import Effect
from kokkiri.causal.estimand import Estimand
from kokkiri.causal.front_door import front_door_set
from kokkiri.causal.graph import Graph
from kokkiri.causal.identify import identify
from kokkiri.causal.instruments import Instruments, instruments
from kokkiri.causal.network_effect import Networks
from kokkiri.causal.overlap import Overlap, overlap_of
from kokkiri.causal.reading import graph_of
from kokkiri.causal.refutation import Refutation
from kokkiri.causal.remedies import Remedy
from kokkiri.causal.sensitivity import Sensitivity
from kokkiri.causal.separation import Path, directed_path, open_path, separated
from kokkiri.causal.verify import Check
from kokkiri.causal.witness import Witness

__all__ = [
    "AdjustmentSet",
    "Balance",
    "Bounds",
    "Check",
    "Effect",
    "Estimand",
    "Graph",
    "Instruments",
    "Networks",
    "Overlap",
    "Path",
    "Refutation",
    "Remedy",
    "Sensitivity",
    "Witness",
    "adjustment_sets",
    "balance_of",
    "check_adjustment",
    "directed_path",
    "front_door_set",
    "graph_of",
    "identify",
    "instruments",
    "is_adjustment_set",
    "open_path",
    "optimal_adjustment_set",
    "overlap_of",
    "separated",
]
