"""The report: every section when its result is given, safe against what the data hold, self-contained."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread

import actome
from actome.analyze.report.figures import drawable_labels
from actome.analyze.report.gather import gather, matching
from actome.analyze.report.heat import overlap_table
from actome.analyze.report.lesions import Effects
from actome.analyze.report.maps import aggregate, any_kept, colour_limit, paint
from actome.analyze.report.wording import decimal
from actome.store.errors import InputError, InputTypeError
from actome.store.phantom import phantom

EVIL = "<script>alert(1)</script>"
ANALYSES = ["contrasts", "components", "networks", "overlap", "identification", "lesions"]


class Page(HTMLParser):
    """What a browser would see: ids of the sections, tags, what is loaded, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        if tag == "section":
            self.sections.append(values["id"])
        self.loaded += [v for k, v in values.items() if k in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def page(*results, out: Path) -> Page:
    return Page(Path(actome.report(*results, out=out)).read_text(encoding="utf-8"))


def effects(networks=("a", "b"), conditions=("a", "b", "rest"), draws=5, seed=0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    n, c = len(networks), len(conditions)
    effect = rng.random((n, c)) / 10 + np.eye(n, c)
    dims = ("network", "condition")
    return xr.Dataset(
        {
            "effect": (dims, effect),
            "low": (dims, effect - 0.05),
            "high": (dims, effect + 0.05),
            "perplexity": (dims, 10 * np.exp(effect)),
            "perplexity_baseline": ("condition", np.full(c, 10.0)),
            "control": (("network", "draw", "condition"), rng.random((n, draws, c)) / 10),
            "p_value": (dims, np.full((n, c), 1 / (1 + draws) if draws else np.nan)),
            "size": ("network", np.full(n, 7)),
        },
        coords={"network": np.array(networks, dtype=object), "condition": np.array(conditions, dtype=object)},
        attrs={"kind": "effects", "by": "condition", "lesion": "zero"},
    )


def components(n=3, shape=(4, 64)) -> xr.Dataset:
    maps = np.random.default_rng(1).standard_normal((n, *shape)) ** 3
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    return xr.Dataset(
        {
            "component_map": (("component", "layer", "neuron"), maps / maps.std(axis=(1, 2), keepdims=True)),
            "stability": ("component", np.linspace(0.9, 0.3, n)),
            "explained_variance": ("component", np.full(n, 0.1)),
            "cluster_size": ("component", np.full(n, 4)),
            "converged": ("repeat", np.array([True, False, True, True])),
        },
        coords={"component": np.arange(n), "layer": np.arange(shape[0]), "neuron": np.arange(shape[1])},
        attrs={"kind": "components", "n_runs": 4, "n_subjects": 9, "method": "group ICA"},
    )


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=6, n_tokens=(4, 6), effect=2.0)


@pytest.fixture(scope="module")
def results(ds):
    fit = actome.fit_glm(ds)
    stacked = [actome.compute_contrast(fit, f"{c} - mean(rest)") for c in "ab"]
    names = xr.Variable("network", np.array(["a", "b"], dtype=object))
    contrast = xr.concat(stacked, dim=names, coords="different", compat="equals")
    mask = actome.threshold(contrast, control=actome.Top(0.05))
    identified = actome.identify(ds, n_permutations=5)
    return {
        "design": fit,
        "contrasts": contrast,
        "components": components(),
        "networks": mask,
        "overlap": actome.overlap(mask),
        "identification": identified,
        "lesions": effects(),
    }


@pytest.fixture(scope="module")
def full(ds, results, tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "report.html"
    actome.report(*reversed(results.values()), ds, out=path)
    return path.read_text(encoding="utf-8")


def test_report__holds_every_section_in_order_whatever_the_order_of_the_results(full):
    assert Page(full).sections == [
        "summary",
        "design",
        *ANALYSES,
        "provenance",
    ]


def test_report__shows_a_section_only_when_its_result_is_given(results, out):
    for name, result in results.items():
        assert page(result, out=out).sections == ["summary", name, "provenance"]


def test_report__contents_lead_to_the_sections(full):
    shown = Page(full)
    assert {f"#{s}" for s in shown.sections} == {v for v in shown.loaded if v.startswith("#")}


def test_report__loads_nothing_and_runs_nothing(full):
    shown = Page(full)
    assert all(v.startswith(("#", "data:image/png;base64,")) for v in shown.loaded)
    assert not shown.tags & {"script", "link", "iframe", "object", "embed"}
    style = re.search(r"<style>(.*?)</style>", full, re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]


def test_report__pictures_are_images_at_twice_their_width(results, out):
    actome.report(results["lesions"], out=out)
    pictures = re.findall(r'base64,([A-Za-z0-9+/=]+)" width="(\d+)"', out.read_text(encoding="utf-8"))
    assert len(pictures) == 2
    for source, width in pictures:
        assert imread(io.BytesIO(base64.b64decode(source))).shape[1] == 2 * int(width)


def test_report__escapes_what_comes_from_the_data(ds, out):
    evil = ds.assign_coords(
        text=("prompt", np.full(ds.sizes["prompt"], EVIL, dtype=object)),
        condition=("prompt", np.where(ds["condition"] == "a", EVIL, ds["condition"]).astype(object)),
    ).assign_attrs(name=EVIL, note={"deep": [EVIL] * 20}, long=EVIL * 20)
    fit = actome.fit_glm(evil, "condition")
    contrast = actome.compute_contrast(fit, {EVIL: 1.0, "rest": -1.0})
    mask = actome.threshold(contrast, control=actome.Top(0.1)).expand_dims(network=[EVIL])
    identified = actome.identify(evil, n_permutations=3)
    given = [evil, fit, contrast, mask, actome.overlap(mask), identified, effects((EVIL, "b"), (EVIL, "b"))]
    shown = page(*given, out=out)
    assert "script" not in shown.tags
    assert EVIL in shown.text
    assert "<script" not in out.read_text(encoding="utf-8")


def test_report__keeps_text_of_any_script_readable(ds, out):
    texts = ["ディスクの空き容量 $x$ " + "長" * 200, "σκληρός δίσκος", "قرص صلب"]
    labels = np.array(["日本語", "ελ", "$a$ and $b$"])
    code = np.arange(ds.sizes["prompt"]) % 3
    shown = page(
        ds.assign_coords(
            text=("prompt", np.array(texts, dtype=object)[code]),
            condition=("prompt", labels[code].astype(object)),
        ),
        effects(("日本語", "b"), tuple(labels)),
        out=out,
    )  # a glyph that a figure lacked would have warned
    assert "ディスクの空き容量 $x$ 長" in shown.text and "قرص صلب" in shown.text
    assert "長" * 130 not in shown.text
    assert "(1) = 日本語" in shown.text


def test_report__does_not_depend_on_the_users_matplotlib_style(out):
    actome.report(components(1), out=out)
    pictures = re.findall(r"base64,[^\"]+", out.read_text(encoding="utf-8"))
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "black", "font.size": 30}):
        actome.report(components(1), out=out)
        assert mpl.rcParams["font.size"] == 30
    assert re.findall(r"base64,[^\"]+", out.read_text(encoding="utf-8")) == pictures


def test_report__takes_lazy_and_reopened_results(ds, results, out, tmp_path):
    lazy_fit = actome.fit_glm(ds.chunk(prompt=4))
    contrast = actome.compute_contrast(lazy_fit, "a - b")
    assert contrast["stat"].chunks
    mask = actome.threshold(contrast, control=actome.Z(2.0))
    paths = [
        actome.save_result(r, tmp_path / f"{i}.zarr") for i, r in enumerate((mask, results["components"]))
    ]
    shown = page(ds.chunk(prompt=4), lazy_fit, contrast, *map(actome.open, paths), out=out)
    assert {"design", "contrasts", "components", "networks"} <= set(shown.sections)
    assert "Z(2.0), one-sided" in shown.text


def test_report__reads_no_activation_of_a_recording(ds, out):
    def fail(block):
        raise AssertionError("the cube was read")

    cube = ds["activation"].chunk(prompt=4)
    shut = cube.copy(data=cube.data.map_blocks(fail, dtype=cube.dtype, meta=np.zeros((0,) * 4, cube.dtype)))
    assert page(ds.assign(activation=shut), out=out).sections == ["summary", "design", "provenance"]


def test_report__states_the_headline_numbers(results, full):
    text = Page(full).text
    accuracy = float(results["identification"]["accuracy"])
    assert f"{100 * accuracy:.1f} % of 18 prompts named rightly" in text
    assert "2 networks (Top(0.05), one-sided), their sizes out of 256 neurons: a 13, b 13." in text
    assert "2 of the 2 networks named as a condition cost that condition most" in text
    assert "by chance 0.667 would" in text
    assert "3 of 4 repeats converged; not converged: 1" in text


def test_report__states_the_smallest_p_that_the_draws_can_give(out):
    assert (
        "5 matched controls a network; the smallest p they can give is 0.17" in page(effects(), out=out).text
    )
    assert "no p-values" in page(effects(draws=0), out=out).text


def test_report__says_when_neurons_are_drawn_together(out):
    assert "1,500 neurons a layer are drawn 2 to a column" in page(components(1, (2, 1500)), out=out).text


def test_report__shows_a_recording_without_conditions(ds, out):
    bare = ds.drop_vars(["condition", "run", "block", "text", "condition_name", "true_effect"])
    assert "no conditions" in page(bare, out=out).text


def test_report__shows_how_controls_match(out):
    scores = xr.Dataset(
        {"network": (("lesion", "layer", "neuron"), np.ones((3, 1, 2), dtype=bool))},
        coords={
            "role": ("lesion", np.array(["baseline", "target", "control"], dtype=object)),
            "target": ("lesion", np.array(["", "a", "a"], dtype=object)),
            "mismatch": ("lesion", [np.nan, 0.0, -0.125]),
        },
        attrs={"kind": "scores"},
    )
    assert "12.5 %" in page(scores, out=out).text


def test_report__makes_the_folder_replaces_the_file_and_leaves_nothing_else(tmp_path, results):
    out = tmp_path / "new" / "deep" / "r.html"
    assert actome.report(results["overlap"], out=out) == str(out)
    assert actome.report(results["lesions"], out=str(out)) == str(out)
    assert [p.name for p in out.parent.iterdir()] == ["r.html"]
    assert 'id="overlap"' not in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong", [3, "fit.zarr", None, [xr.Dataset()], xr.Dataset(), xr.DataArray(np.ones(3))]
)
def test_report__refuses_what_is_no_result(wrong, out):
    with pytest.raises(
        InputTypeError, match="result 2 of the report must be a Dataset of kind recording, fit"
    ):
        actome.report(effects(), wrong, out=out)
    assert not out.exists()


def test_report__refuses_a_kind_that_it_does_not_know(out):
    with pytest.raises(InputTypeError, match=r"kind 'dream' with the variables \['x'\]"):
        actome.report(xr.Dataset({"x": 1}, attrs={"kind": "dream"}), out=out)


def test_report__says_what_to_do_with_regions(out):
    for kind, message in (
        ("regions", "give what `region_effects` returns"),
        ("importance", "`actome.region`"),
    ):
        tree = xr.DataTree(xr.Dataset(attrs={"kind": kind}))
        with pytest.raises(InputTypeError, match=f"result 1 of the report holds {kind}, .*{message}"):
            actome.report(tree, out=out)


def test_report__a_set_without_a_network_is_no_table(ds, out):
    mask = actome.threshold(actome.compute_contrast(actome.fit_glm(ds), "a - b")).expand_dims(network=["a"])
    none = mask.isel(network=[])
    for which, ab in (("second", (mask, none)), ("first", (none, mask)), ("first", (none,))):
        shown = page(actome.overlap(*ab), out=out).text
        assert f"The {which} set holds no network: there is nothing to compare." in shown


def test_report__needs_a_result(out):
    with pytest.raises(InputError, match="at least one result, got none"):
        actome.report(out=out)


def test_report__names_what_a_result_lacks(out):
    with pytest.raises(InputError, match=r"kind 'effects' but lacks \['low', 'control'\]"):
        actome.report(effects().drop_vars(["low", "control"]), out=out)


def test_overlap_table__tells_one_set_from_two():
    values, shared = np.array([[1.0, 0.25], [0.25, 1.0]]), np.ones((2, 2), dtype=np.int64)
    one = overlap_table(values, shared, ["a", "b"], ["a", "b"], "")
    assert "Grey: a network with itself" in one.caption and "up to 0.25" in one.caption
    two = overlap_table(values / 2, shared, ["a", "b"], ["a", "b"], "")
    assert "same name" in two.caption and [c.marked for c in two.rows[0][1]] == [True, False]


def test_perplexities__are_split_where_conditions_are_many(out):
    conditions = tuple(f"c{i}" for i in range(20))
    html = Path(actome.report(effects(("c0",), conditions), out=out)).read_text(encoding="utf-8")
    assert html.count(">none (baseline)<") == 2


def test_aggregate__keeps_the_value_farthest_from_zero_with_its_sign():
    values = np.random.default_rng(0).standard_normal((3, 2503)).astype(np.float32)
    out = aggregate(values, 1000)
    assert out.shape == (3, 835)
    for column in (0, 417, 834):
        binned = values[:, 3 * column : 3 * column + 3]
        np.testing.assert_array_equal(
            out[:, column], np.take_along_axis(binned, abs(binned).argmax(1)[:, None], 1)[:, 0]
        )
    assert abs(out).max() == abs(values).max()


def test_aggregate__ignores_what_is_missing():
    values = np.array([[np.nan, -1.0, np.nan, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(aggregate(values, 2), [[-1.0, np.nan]])


def test_aggregate__leaves_few_neurons_alone():
    values = np.ones((2, 1000), dtype=np.float32)
    assert aggregate(values) is values


def test_any_kept__marks_a_column_with_one_kept_neuron():
    mask = np.zeros((1, 2000), dtype=bool)
    mask[0, 7] = True
    assert np.flatnonzero(any_kept(mask)).tolist() == [3]


def test_colour_limit__is_round_positive_and_above_most_values():
    assert colour_limit([np.linspace(-7.3, 2, 1000, dtype=np.float32)]) == 7.5
    assert colour_limit([np.zeros((2, 2), dtype=np.float32)]) == colour_limit([]) == 1.0


def test_paint__is_white_at_zero_red_above_and_marks_what_is_kept():
    kept = np.array([[True, False, False]])
    pixels = paint(np.array([[0.0, 5.0, np.nan]], dtype=np.float32), kept, 1.0, 6, 2)
    assert pixels.shape == (6, 6, 3)
    assert pixels[0, 0].min() > 240
    assert pixels[0, 2, 0] > 2 * pixels[0, 2, 2]
    assert pixels[0, 4].tolist() == [205] * 3
    assert pixels[5, 0].max() < 50 and pixels[5, 2].min() == 255


def test_matching__takes_the_threshold_of_the_map_and_no_other(results):
    contrast, mask = results["contrasts"], results["networks"]
    found = gather([contrast, mask])
    assert [n.name for m in found.contrasts if (n := matching(m, found.networks))] == ["a", "b"]
    other = gather([contrast, mask.roll(neuron=1)])
    assert [matching(m, other.networks) for m in other.contrasts] == [None, None]


def test_matching__knows_a_network_by_the_regressor_it_was_selected_for(ds):
    contrast = actome.compute_contrast(actome.fit_glm(ds), "a - mean(rest)")
    mask = actome.threshold(contrast, control=actome.Z(3.0)).expand_dims(network=["a"])
    found = gather([contrast, mask])
    assert matching(found.contrasts[0], found.networks) is found.networks[0][0]


def test_drawable_labels__number_what_the_font_lacks():
    labels, key = drawable_labels(["fr", "日本", "$x$"])
    assert labels == ["fr", "(2)", r"\$x\$"] and key == "(2) = 日本"


def test_effects_own__is_the_condition_of_the_networks_name():
    read = Effects.of(effects(("b", "ic0")))
    assert [read.own(i) for i in range(2)] == [1, None]


def test_report__replaces_a_report_and_refuses_what_is_something_else(results, tmp_path):
    out = tmp_path / "report.html"
    out.touch()  # an empty file, as mktemp makes
    first = Path(actome.report(results["lesions"], out=out)).read_bytes()
    actome.report(results["overlap"], out=out)
    assert out.read_bytes() != first
    page_of_mine = b"<!DOCTYPE html>\n<title>Actome report: mine</title>\n"
    for name, held in (("precious.csv", b"a,b\n1,2\n"), ("mine.html", page_of_mine)):
        (tmp_path / name).write_bytes(held)
        with pytest.raises(InputError, match=f"{name} is there already and is no report of Actome"):
            actome.report(results["overlap"], out=tmp_path / name)
        assert (tmp_path / name).read_bytes() == held
    for out, message in (
        (tmp_path, "is a folder; name the report's file"),
        ("/dev/null", "is there already"),
        ("s3://lab/r.html", "is a file of this machine"),
    ):
        with pytest.raises(InputError, match=message):
            actome.report(results["overlap"], out=out)


def test_report__tells_the_strongest_neurons_of_each_contrast(results, out):
    contrast, mask = results["contrasts"], results["networks"]
    renumbered = contrast.assign_coords(neuron=contrast["neuron"] + 1000)
    for given, kept, two_sided in (
        ((renumbered, mask.assign_coords(neuron=renumbered["neuron"])), mask, False),
        ((renumbered,), xr.ones_like(mask), True),
    ):
        text = page(*given, out=out).text
        assert "The 5 strongest neurons of each contrast" in text
        for i in range(contrast.sizes["network"]):
            stat = contrast["stat"][i].where(kept[i])
            flat = (abs(stat) if two_sided else stat).to_numpy().ravel()
            for place in np.argsort(-np.nan_to_num(flat, nan=-np.inf))[:5]:
                layer, neuron = divmod(int(place), contrast.sizes["neuron"])
                effect = decimal(float(contrast["effect"][i, layer, neuron]))
                assert f"{layer}{1000 + neuron}{effect}" in text


def test_report__an_f_has_strongest_neurons_without_effects(ds, out):
    fit = actome.fit_glm(ds)
    f = actome.compute_contrast(fit, np.array([[1, -1, 0, 0], [0, 1, -1, 0]]))
    text = page(f, out=out).text
    assert "layerneuronstatisticzp" in text
    assert "confounds: run" in text
