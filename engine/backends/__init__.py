"""Inference libraries behind one seam: `load_network(model, backend=...)` gives a `Network`."""

from engine.backends.graph import weights_of, with_weights
from engine.backends.network import Network, Precision, TensorSpec
from engine.backends.registry import (
    BackendStatus,
    WantedPrecision,
    available,
    backend_names,
    default_backend,
    load_network,
)

__all__ = [
    "BackendStatus",
    "Network",
    "Precision",
    "TensorSpec",
    "WantedPrecision",
    "available",
    "backend_names",
    "default_backend",
    "load_network",
    "weights_of",
    "with_weights",
]
