"""The priors that are compared, and whom they know."""

import copy
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from benchmarks.experiments.options import Say
from engine.backends import weights_of
from engine.errors import AssetError, InputError
from engine.models import cache_dir
from engine.render.renderer import PRIOR_ASSETS
from export.dataset import Clip
from export.prior_assets import PREFIX, texture_asset
from export.prior_net import TIERS
from export.train_prior import Prior

TIER = "cpu"


@dataclass(frozen=True, eq=False)
class KnownPrior:
    """A prior.

    Attributes:
        name: its hash.
        prior: network and mean texture; not to be trained.
        identities: whom it was learned from; empty if its files do not say.
    """

    name: str
    prior: Prior
    identities: tuple[str, ...] = ()

    @property
    def people(self) -> int | None:
        """How many those are; None if that is not known."""
        return len(self.identities) or None

    def untrained(self) -> Prior:
        """A fresh copy."""
        return copy.deepcopy(self.prior)

    def check(self, clips: Iterable[Clip]) -> None:
        """Refuse people whom it knows.

        Raises:
            InputError: as said.
        """
        known = sorted({clip.identity for clip in clips} & set(self.identities))
        if known:
            raise InputError(f"prior {self.name} was trained on {', '.join(known)}: evaluate somebody else")


def shipped_prior() -> KnownPrior:
    """The one in `engine/assets`.

    Raises:
        AssetError: its files do not belong together.
    """
    return read_prior(resources.files("engine.assets"))


def read_prior(folder: Traversable) -> KnownPrior:
    """What `livedub train prior` wrote into a folder.

    Raises:
        AssetError: it is not all there, or does not belong together.
    """
    tier = TIERS[TIER]
    prior, texture = Prior(tier, 0), folder.joinpath(texture_asset(TIER))
    try:
        weights = weights_of(folder.joinpath(PRIOR_ASSETS[TIER]).read_bytes())
        state = {name: torch.from_numpy(weights[PREFIX + name].copy()) for name in prior.net.state_dict()}
        prior.net.load_state_dict(state)
        with resources.as_file(texture) as path, safe_open(path, "np") as file:
            mean = file.get_tensor("texture").astype(np.float32)
            identities = json.loads((file.metadata() or {}).get("identities", "[]"))
        with torch.no_grad():
            prior.mean.copy_(torch.from_numpy(mean))
    except (KeyError, OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise AssetError(f"{folder} holds no prior of tier {TIER}: {error}") from error
    return KnownPrior(name_of(prior), prior, tuple(identities))


def small_prior(data: Path, people: int, steps: int, seed: int, say: Say) -> KnownPrior:
    """A prior of a few people, trained here unless that was done before; it is kept in the cache folder.

    Args:
        data: folder of footage, or a training set.
        people: of it, at random.
        steps: of training.
        seed: of everything random.
        say: told how it goes.

    Raises:
        LivedubError: there is nothing to train on, or a model is missing.
    """
    from export.jobs_prior import PriorOptions, train_prior

    place = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
    folder = cache_dir() / "priors" / f"{place}-people-{people}-steps-{steps}-seed-{seed}"
    if not (folder / texture_asset(TIER)).exists():
        say(f"training a prior of {people} people, {steps} steps")

        def on_progress(stage: str, done: int, total: int | None) -> None:
            say(f"{stage}: {done}" + (f" of {total}" if total else ""))

        options = PriorOptions(tier=TIER, steps=steps, seed=seed, people=people)
        train_prior(data, folder, options, on_progress=on_progress)
    return read_prior(folder)


def name_of(prior: Prior) -> str:
    """The first 12 digits of a hash over network and mean texture."""
    digest = hashlib.sha256()
    for name, tensor in [*sorted(prior.net.state_dict().items()), ("mean", prior.mean)]:
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()[:12]
