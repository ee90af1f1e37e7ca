from importlib import resources
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch

from engine.backends import load_network, weights_of
from engine.errors import AssetError
from engine.render.renderer import INPUT, OUTPUT, PRIOR_ASSETS
from export import prior_assets
from export.prior_assets import PREFIX, export_prior, load_prior, texture_asset
from export.prior_net import CANVAS_CHANNELS, TIERS, RuntimeNet, Tier
from export.train_prior import Prior

TINY = Tier("cpu", 32, 16, (8, 12, 16), 1)


@pytest.fixture(scope="module")
def prior() -> Prior:
    torch.manual_seed(0)
    prior = Prior(TINY, 2)
    for weight in prior.net.parameters():
        torch.nn.init.normal_(weight, std=0.05)  # equal tensors would be exported once, under one name
    return prior


@pytest.fixture(scope="module")
def exported(prior: Prior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    with catch_warnings():
        simplefilter("ignore")  # torch.export warns of itself
        export_prior(prior, folder)
    return folder


def test_two_whole_files(exported: Path) -> None:
    assert {file.name for file in exported.iterdir()} == {PRIOR_ASSETS["cpu"], texture_asset("cpu")}


@pytest.mark.parametrize(
    ("backend", "atol"), [("reference", 1e-5), ("onnxruntime", 1e-5), ("openvino", 2e-2)]
)
def test_exported_graph_is_the_network(prior: Prior, exported: Path, backend: str, atol: float) -> None:
    canvas = np.random.default_rng(0).random((1, 32, 32, CANVAS_CHANNELS), np.float32)
    network = load_network((exported / PRIOR_ASSETS["cpu"]).read_bytes(), backend=backend)
    with torch.no_grad():
        expected = RuntimeNet(prior.net)(torch.from_numpy(canvas)).numpy()
    got = network.run({INPUT: canvas})[OUTPUT]
    np.testing.assert_allclose(got, expected, atol=atol)
    assert np.ptp(expected) > 0.5


def test_weights_keep_their_names(prior: Prior, exported: Path) -> None:
    """An actor pack names the tensors that it changes, so the graph must name them as torch does."""
    weights = weights_of((exported / PRIOR_ASSETS["cpu"]).read_bytes())
    for name, tensor in prior.net.state_dict().items():
        np.testing.assert_array_equal(weights[PREFIX + name], tensor.numpy())


def test_loaded_prior_is_the_exported_one(
    prior: Prior, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior_assets, "prior_graph", lambda _: (exported / PRIOR_ASSETS["cpu"]).read_bytes())
    monkeypatch.setattr(resources, "files", lambda _: exported)
    loaded = load_prior(TINY)
    canvas = torch.rand(1, 32, 32, CANVAS_CHANNELS)
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(canvas), prior.net(canvas))
    torch.testing.assert_close(loaded.mean, prior.mean, atol=1e-4, rtol=1e-3)


def test_files_that_do_not_belong_together_are_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_assets, "prior_graph", lambda _: (exported / PRIOR_ASSETS["cpu"]).read_bytes())
    with pytest.raises(AssetError, match="prior of tier cpu is incomplete"):
        load_prior(TIERS["cpu"])
