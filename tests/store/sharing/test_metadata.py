"""The files beside the data: card, Croissant, RO-Crate, licence, citation; nothing in them is invented."""

import json
import logging
import warnings

import numpy as np
import pytest
import xarray as xr
from mlcroissant import Dataset
from rocrate.rocrate import ROCrate
from ruamel.yaml import YAML

from actome.store.archive import open as open_entry
from actome.store.errors import InputError
from actome.store.licence import combine
from actome.store.location import Location
from actome.store.sharing import export
from actome.store.sharing.description import Item, Package
from actome.store.sharing.licence import hub_fields, licence_file


def read_yaml(text: str):
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(params=[False, True], ids=["folder", "packed"])
def package(request, lab, tmp_path):
    names = ["words", "animals-contrast"]
    export(
        names,
        tmp_path / "p",
        catalog=lab.folder / "catalog.yaml",
        authors=["Ada Lovelace", "Lab | Two"],
        title="Words",
        packed=request.param,
    )
    return tmp_path / "p"


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_croissant__is_valid_and_describes_every_entry(package, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = Dataset(jsonld=str(package / "croissant.json"))
    metadata = dataset.metadata
    assert not metadata.issues.errors and not metadata.issues.warnings
    assert (metadata.name, str(metadata.date_published)[:10]) == ("Words", "2026-01-02")
    assert [str(url) for url in metadata.license] == [
        "https://spdx.org/licenses/CC0-1.0.html",
        "https://spdx.org/licenses/CC-BY-4.0.html",
    ]
    names = {part.id for part in metadata.distribution}
    sums = dict(line.split("  ")[::-1] for line in (package / "SHA256SUMS").read_text().splitlines())
    packed = (package / "words.zip").exists()
    assert names >= ({"words.zip", "animals-contrast.zip"} if packed else {"words.zarr"})
    for part in metadata.distribution:
        if getattr(part, "sha256", None):
            assert part.sha256 == sums[part.content_url]
            assert part.content_size == f"{(package / part.content_url).stat().st_size} B"


def test_ro_crate__is_read_and_names_what_is_there(package):
    crate = ROCrate(package)
    assert crate.name == "Words" and crate.root_dataset["datePublished"] == "2026-01-02"
    assert [p["name"] for p in crate.root_dataset["author"]] == ["Ada Lovelace", "Lab | Two"]
    assert {e.id for e in crate.data_entities} >= {"LICENSE.txt", "README.md", "SHA256SUMS"}
    for entity in crate.data_entities:
        assert (package / entity.id).exists()
    suffix = ".zip" if (package / "words.zip").exists() else ".zarr/"
    entry = crate.get(f"words{suffix}")
    assert entry["identifier"]["value"].startswith("sha256:")
    variables = {v["name"]: v["value"] for v in entry["variableMeasured"]}
    assert variables["mlp/activation"] == "float32 (prompt, token, layer, neuron) [24, 6, 2, 8]"
    run = crate.get("#run-words")
    assert {s["name"]: s["softwareVersion"] for s in run["instrument"]} == {
        "python": "3.12.1",
        "actome": "0.1.0",
    }
    assert {i["name"]: i["value"] for i in run["object"]}["model"] == "demo"


def test_ro_crate__every_reference_within_it_leads_somewhere(package):
    graph = json.loads((package / "ro-crate-metadata.json").read_text())["@graph"]
    known = [entity["@id"] for entity in graph]
    assert len(known) == len(set(known))
    named = set()

    def collect(value):
        if isinstance(value, dict):
            named.update([value["@id"]] if set(value) == {"@id"} else [])
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(graph)
    assert {n for n in named if not n.startswith("https://")} <= set(known)


def test_card__has_the_front_matter_of_the_hub(package):
    from huggingface_hub import DatasetCard

    card = DatasetCard((package / "README.md").read_text())
    assert card.data.pretty_name == "Words"
    assert card.data.license == "other" and card.data.license_name == "CC0-1.0 AND CC-BY-4.0"
    assert card.data.license_link == "LICENSE.txt" and "animals" in card.data.tags
    assert card.data.size_categories == ["n<1K"]
    assert "Words for animals" in card.text and "Lab \\| Two" in card.text
    assert "prompt 24, token 6" in card.text and "Lab (2026), Words." in card.text


def test_citation__has_what_was_given(package):
    content = read_yaml((package / "CITATION.cff").read_text())
    assert content["cff-version"] == "1.2.0" and content["title"] == "Words"
    assert content["authors"] == [{"name": "Ada Lovelace"}, {"name": "Lab | Two"}]
    assert "Lab (2026), Words." in content["message"] and content["date-released"] == "2026-01-02"
    assert content["identifiers"][0]["value"].startswith("sha256:")


def test_citation__a_file_is_copied_as_it_is(lab, tmp_path):
    text = "cff-version: 1.2.0\nmessage: m\ntitle: t\nauthors: [{family-names: L}]\n"
    (tmp_path / "CITATION.cff").write_text(text)
    export(lab.recording, tmp_path / "p", citation=tmp_path / "CITATION.cff")
    assert (tmp_path / "p" / "CITATION.cff").read_text() == text
    (tmp_path / "bad.cff").write_text("title: t\n")
    with pytest.raises(InputError, match=r"it lacks \['cff-version', 'message', 'authors'\]"):
        export(lab.recording, tmp_path / "q", citation=tmp_path / "bad.cff")


def test_export__names_no_citation_author_or_licence_that_it_was_not_told(tmp_path, tiny_path):
    export(tiny_path, tmp_path / "p")
    assert not (tmp_path / "p" / "CITATION.cff").exists()
    assert "tiny: no licence is recorded" in (tmp_path / "p" / "LICENSE.txt").read_text()
    croissant = json.loads((tmp_path / "p" / "croissant.json").read_text())
    assert not {"license", "creator", "citeAs"} & croissant.keys()
    front = (tmp_path / "p" / "README.md").read_text().split("---")[1]
    assert read_yaml(front)["license"] == "unknown"
    saved = Location.of(tiny_path).group().attrs["provenance"]["saved"]
    assert croissant["datePublished"] == saved[:10]


def test_licence__text_and_expression_are_kept(lab, tmp_path):
    (tmp_path / "text").write_text("Do what is right.\n")
    export(lab.result, tmp_path / "p", licence="LicenseRef-Lab", licence_text=tmp_path / "text")
    text = (tmp_path / "p" / "LICENSE.txt").read_text()
    assert text.startswith("SPDX-License-Identifier: LicenseRef-Lab\n\ncontrast: LicenseRef-Lab\n")
    assert text.endswith("Do what is right.\n") and "spdx.org" not in text


def test_licence__of_several_entries():
    assert combine(["MIT", "MIT"]) == "MIT" and combine([]) is None
    assert combine(["MIT", "GPL-2.0-only OR MIT"]) == "MIT AND (GPL-2.0-only OR MIT)"
    assert hub_fields("CC-BY-4.0") == {"license": "cc-by-4.0"}
    assert hub_fields("GPL-2.0-only")["license"] == "other"
    items = (Item("a", "a.zarr", {}, {}, {}, licence="MIT"),)
    assert "https://spdx.org/licenses/MIT.html" in licence_file(Package("t", items, licence="MIT"))


def test_catalog__is_opened_by_intake(package):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that Intake imports
        import intake

        catalog = intake.open_catalog(str(package / "catalog.yaml"))
        assert list(catalog) == ["words", "animals-contrast"]
        if (package / "words.zip").exists():  # which zarr opens by another address
            theirs = xr.open_zarr(f"zip://::{package}/animals-contrast.zip")["effect"].values
        else:
            theirs = catalog["animals-contrast"].to_dask()["effect"].values
    ours = open_entry("animals-contrast", catalog=package / "catalog.yaml")["effect"]
    np.testing.assert_array_equal(theirs, ours)
