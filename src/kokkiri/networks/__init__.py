"""Networks to assemble: MLP, ConvNet, embeddings for categories. Any other nn.Module does as well."""

from __future__ import annotations

from kokkiri.networks.convnet import ConvNet
from kokkiri.networks.embeddings import Embeddings
from kokkiri.networks.mlp import MLP
from kokkiri.networks.settings import config, from_config
from kokkiri.networks.summary import Row, describe

__all__ = ["MLP", "ConvNet", "Embeddings", "Row", "config", "describe", "from_config"]
