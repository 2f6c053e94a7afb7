"""The units of a new recording, of short prompts and of long ones."""

import numpy as np
import pandas as pd
import pytest

from actome.store.allocate import SiteSpec, allocate, default_unit
from actome.store.location import Location


def site(n_layers: int, n_neurons: int, dtype: str = "float16", **changes) -> SiteSpec:
    hooks = ("h",) * n_layers
    return SiteSpec(tuple(range(n_layers)), tuple(range(n_neurons)), hooks, dtype, **changes)


@pytest.mark.parametrize("cube", [True, False])
@pytest.mark.parametrize("n_tokens", [1, 3, 12])
def test_default_unit__of_short_prompts_holds_their_moments_in_memory(n_tokens, cube):
    unit = default_unit(100_000, n_tokens, {"mlp": site(48, 4096, cube=cube)})
    held = unit * 48 * 4096 * (3 * np.dtype("float64").itemsize + cube * n_tokens * 2)
    assert 2**29 < held <= 2**30


def test_default_unit__of_several_sites_holds_them_all():
    sites = {"mlp": site(8, 1000, "float32"), "residual": site(12, 500, cube=False)}
    assert default_unit(10**6, 5, sites) == 2**30 // (8 * 1000 * (5 * 4 + 24) + 12 * 500 * 24)


def test_default_unit__of_ordinary_prompts_fills_a_shard():
    assert default_unit(100_000, 128, {"mlp": site(12, 3072)}) == 2**26 // (128 * 2 * 3072)


def test_allocate__takes_the_default_unit(tmp_path):
    labels, spec = pd.DataFrame({"prompt": [f"p{i}" for i in range(2000)]}), site(48, 4096)
    location = Location.of(tmp_path / "r.zarr")
    allocate(location, labels=labels, n_tokens=1, sites={"mlp": spec}, token_variables=(), provenance={})
    unit = default_unit(2000, 1, {"mlp": spec})
    assert unit < 250  # an eighth of the prompts, which is all that a shard of one token asks for
    group = location.group()
    arrays = ("recorded", "mlp/activation", "mlp/summary/mean")
    assert {group[name].chunks[0] for name in arrays} == {unit}
