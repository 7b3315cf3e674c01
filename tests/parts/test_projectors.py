from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from slotreel.errors import ConfigError
from slotreel.projectors.grid_mlp import GridMLP
from slotreel.projectors.identity import Identity
from slotreel.projectors.mlp2 import MLP2
from slotreel.types import Dims, FrameFeatures

CONF = Path(__file__).parents[2] / "conf"


def dims(feature=12, slot=8, grid=(4, 4)):
    return Dims(feature, slot, 3, 3, grid, (32, 32), 2)


def features(grid=(4, 4), width=12):
    generator = torch.Generator().manual_seed(0)
    return FrameFeatures(torch.randn(2, 3, grid[0] * grid[1], width, generator=generator), grid)


@pytest.mark.parametrize("option", ["identity", "mlp2", "grid_mlp"])
def test_every_option_builds_and_trains_all_it_has(option):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(f"projector/{option}").projector
    first = (CONF / "projector" / f"{option}.yaml").read_text().splitlines()[0]
    assert first.startswith(f"# Enable with projector={option}:")
    slot = 12 if option == "identity" else 8
    projector = instantiate(cfg, _partial_=True, _convert_="all")(dims=dims(slot=slot))
    for grid in ((4, 4), (2, 5)):
        assert projector(features(grid)).shape == (2, 3, grid[0] * grid[1], slot)
    if option != "identity":
        projector(features()).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in projector.parameters())


def test_identity_wants_equal_widths():
    given = features()
    assert Identity(dims(slot=12))(given) is given.tokens
    with pytest.raises(ConfigError, match=r"type slot_dim=12, or projector=mlp2"):
        Identity(dims(slot=8))


def test_mlp2_closed_form():
    torch.manual_seed(0)
    projector, given = MLP2(dims()), features()
    state = projector.state_dict()
    assert sorted(state) == [
        "layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight",
        "layers.3.bias", "layers.3.weight",
    ]  # fmt: skip
    assert state["layers.1.weight"].shape == (24, 12)
    assert not state["layers.1.bias"].any()
    assert not state["layers.3.bias"].any()
    x = F.layer_norm(given.tokens, (12,), eps=1e-5)
    expected = (x @ state["layers.1.weight"].T).relu() @ state["layers.3.weight"].T
    torch.testing.assert_close(projector(given), expected)
    assert MLP2(dims(), hidden_dim=5).layers[1].out_features == 5
    with pytest.raises(ConfigError, match=r"got 0; type projector.hidden_dim=24"):
        MLP2(dims(), hidden_dim=0)


def test_grid_mlp_closed_form():
    torch.manual_seed(0)
    projector, given = GridMLP(dims(), hidden_dim=16), features((2, 3))
    corners = torch.tensor(
        [[-1.0, -1], [-1, 0], [-1, 1], [1, -1], [1, 0], [1, 1]]
    )  # (row, column), end points included
    x = given.tokens + corners @ projector.position.weight.T
    x = F.layer_norm(x, (12,), eps=1e-6)
    expected = (x @ projector.mlp[1].weight.T).relu() @ projector.mlp[3].weight.T
    torch.testing.assert_close(projector(given), expected)
    assert projector.mlp[1].out_features == 16
    assert not projector.position.bias.any()


def test_learned_positions_follow_the_grid():
    torch.manual_seed(0)
    projector = GridMLP(dims(), position="learned")
    native, other = features((4, 4)), features((2, 6))
    torch.testing.assert_close(projector(native), projector.mlp(native.tokens + projector.table))
    image = projector.table.reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    image = F.interpolate(image, (2, 6), mode="bicubic", antialias=True)
    table = image.flatten(2).transpose(1, 2)
    torch.testing.assert_close(projector(other), projector.mlp(other.tokens + table))
    assert projector.table.std().item() == pytest.approx(0.02, rel=0.2)


def test_grid_mlp_knobs_are_checked():
    with pytest.raises(ConfigError, match=r"position=lerned: did you mean: learned"):
        GridMLP(dims(), position="lerned")
    with pytest.raises(ConfigError, match=r"hidden_dim above 0, got -1"):
        GridMLP(dims(), hidden_dim=-1)
