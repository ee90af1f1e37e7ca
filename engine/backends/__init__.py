"""Inference libraries behind one seam: `load_network(model, backend=...)` gives a `Network`."""

from engine.backends.graph import weights_of, with_weights
from engine.backends.network import Network, Precision, TensorSpec
from engine.backends.quantised import quantised, rounded_tensors, with_outputs
from engine.backends.registry import (
    PRECISIONS,
    BackendStatus,
    WantedPrecision,
    available,
    backend_names,
    choose_precision,
    default_backend,
    load_network,
)

__all__ = [
    "PRECISIONS",
    "BackendStatus",
    "Network",
    "Precision",
    "TensorSpec",
    "WantedPrecision",
    "available",
    "backend_names",
    "choose_precision",
    "default_backend",
    "load_network",
    "quantised",
    "rounded_tensors",
    "weights_of",
    "with_outputs",
    "with_weights",
]
