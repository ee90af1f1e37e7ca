"""The prior as shipped files: the network as ONNX for run time, the mean texture for adaptation."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save_file

from engine.backends import weights_of
from engine.errors import AssetError
from engine.render.renderer import INPUT, OUTPUT, WEIGHTS, prior_graph
from export.onnx_file import write_onnx
from export.prior_net import CANVAS_CHANNELS, PriorNet, RuntimeNet, Tier
from export.train_prior import Prior

PREFIX = WEIGHTS


def texture_asset(tier: str) -> str:
    """File name of a tier's mean texture."""
    return f"prior_{tier}_texture.safetensors"


def export_graph(net: PriorNet, tier: Tier, path: Path) -> None:
    """Write a network as ONNX: canvas float32 [1, S, S, 23] to RGB and alpha float32 [1, S, S, 4]."""
    canvas = torch.zeros(1, tier.size_px, tier.size_px, CANVAS_CHANNELS)
    write_onnx(RuntimeNet(net), {INPUT: canvas}, [OUTPUT], path)


def export_prior(prior: Prior, folder: Path, *, identities: Sequence[str] = ()) -> None:
    """Write both files of a prior into a folder; `identities`, whom it was learned from, go along."""
    export_graph(prior.net, prior.tier, folder / f"prior_{prior.tier.name}.onnx")
    texture = prior.mean.detach().cpu().numpy().astype(np.float16)
    people = json.dumps(sorted(set(identities)))
    save_file({"texture": texture}, folder / texture_asset(prior.tier.name), metadata={"identities": people})


def load_prior(tier: Tier) -> Prior:
    """The shipped prior, ready to be adapted.

    Raises:
        AssetError: its files do not belong together.
    """
    prior = Prior(tier, 0)
    try:
        weights = weights_of(prior_graph(tier.name))
        state = {name: torch.from_numpy(weights[PREFIX + name].copy()) for name in prior.net.state_dict()}
        prior.net.load_state_dict(state)
        data = resources.files("engine.assets").joinpath(texture_asset(tier.name)).read_bytes()
        with torch.no_grad():
            prior.mean.copy_(torch.from_numpy(load(data)["texture"].astype(np.float32)))
    except (KeyError, OSError, RuntimeError) as error:
        raise AssetError(
            f"the prior of tier {tier.name} is incomplete: {error}; reinstall livedub"
        ) from error
    return prior
