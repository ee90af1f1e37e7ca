"""A made-up person and a tiny prior prove in seconds that an experiment works. The numbers mean nothing."""

import numpy as np
import torch

from benchmarks.experiments.footage import Footage, collect
from benchmarks.experiments.perform import Workshop
from benchmarks.experiments.priors import KnownPrior, name_of
from benchmarks.experiments.score import Judge
from engine.face.model import FaceModel, load_face_model
from export.prior_net import Tier
from export.train_prior import Prior, start_textures
from tests.support.toy_actor import landmarks, opened
from tests.support.toy_clip import head, opening, picture, toy_clip

FRAMES, FPS = 24, 4.0
TIER = Tier("cpu", 176, 32, (8, 12), 1)  # smaller crops have mouths too small for the perceptual loss


def toy_workshop() -> Workshop:
    """Everything that an experiment needs, without footage, landmark network or perceptual distance."""
    model, prior = load_face_model(), toy_prior()
    return Workshop({"toy": toy_footage(model)}, {prior.name: prior}, model, Judge(None, None, None), "quick")


def toy_footage(model: FaceModel) -> Footage:
    """Six seconds of a smooth face that follows a head and its mouth."""
    points = [landmarks(head(index), opened(opening(index))) for index in range(FRAMES)]
    pictures = [picture(one, 0.0) for one in points]
    return collect("toy", "ada", pictures, np.stack(points), FPS, model, TIER.size_px, scored_frames=2)


def toy_prior() -> KnownPrior:
    """A network that passes colours through, and somebody else's mean texture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = Prior(TIER, 1)
    start_textures(prior, [toy_clip("bob", frames=4, size_px=TIER.size_px, tint=1.0)], load_face_model())
    prior.own = torch.nn.ParameterList()
    return KnownPrior(name_of(prior), prior, ("bob",))
