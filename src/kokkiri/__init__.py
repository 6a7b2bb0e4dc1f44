"""Every network is a posterior: fit, predict, update, do.

>>> import kokkiri as kk
>>> data = kk.read("breast-cancer")                                     # data
>>> net = kk.networks.MLP(data.inputs, [16], 1)                         # network: any nn.Module
>>> post = kk.fit(data, net, kk.Bernoulli(), kk.Adam(lr=1e-2), steps=100, progress=False)
>>> kk.predict(post, data).mean.shape
torch.Size([569, 2])
"""

from __future__ import annotations

__version__ = "0.1.0"

from kokkiri import causal, decisions, evaluation, exact, likelihoods, networks, optimizers, posteriors, priors
from kokkiri.causal import Graph, identify
from kokkiri.data.augment import Augment
from kokkiri.data.core import Data, Inputs, Target
from kokkiri.data.read import read
from kokkiri.data.splits import split
from kokkiri.effects import do
from kokkiri.errors import (
    CannotLift,
    ChecksumError,
    DataError,
    FormatError,
    GraphError,
    KokkiriError,
    ModelError,
    NotIdentified,
    NotPositiveDefinite,
    OutputError,
    ShapeError,
    Unsupported,
    UsageError,
)
from kokkiri.examiner import check, to_arviz
from kokkiri.herd import Herd, herd, reweight, sweep
from kokkiri.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from kokkiri.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    GradientDescent,
    Momentum,
    Nesterov,
    RMSprop,
    StepDecay,
    WarmUp,
)
from kokkiri.posteriors import Ensemble, Hamiltonian, Langevin, Laplace, LastLayer, Particles, Point
from kokkiri.priors import Flat, Normal
from kokkiri.records import Record, Status
from kokkiri.training import Dense, Loop, Plan, Stack, train
from kokkiri.types import Batch
from kokkiri.updates import update
from kokkiri.verbs import fit, load, predict, save

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Augment",
    "Batch",
    "Bernoulli",
    "CannotLift",
    "Categorical",
    "ChecksumError",
    "Constant",
    "Cosine",
    "Data",
    "DataError",
    "Dense",
    "Ensemble",
    "Flat",
    "FormatError",
    "Gaussian",
    "GradientDescent",
    "Graph",
    "GraphError",
    "Hamiltonian",
    "Herd",
    "HeteroscedasticGaussian",
    "HeteroscedasticStudentT",
    "Inputs",
    "KokkiriError",
    "Langevin",
    "Laplace",
    "LastLayer",
    "Loop",
    "ModelError",
    "Momentum",
    "NegativeBinomial",
    "Nesterov",
    "Normal",
    "NotIdentified",
    "NotPositiveDefinite",
    "OutputError",
    "Particles",
    "Plan",
    "Point",
    "Poisson",
    "RMSprop",
    "Record",
    "ShapeError",
    "Stack",
    "Status",
    "StepDecay",
    "StudentT",
    "Target",
    "Unsupported",
    "UsageError",
    "WarmUp",
    "causal",
    "check",
    "decisions",
    "do",
    "evaluation",
    "exact",
    "fit",
    "herd",
    "identify",
    "likelihoods",
    "load",
    "networks",
    "optimizers",
    "posteriors",
    "predict",
    "priors",
    "read",
    "reweight",
    "save",
    "split",
    "sweep",
    "to_arviz",
    "train",
    "update",
]  # fmt: skip
