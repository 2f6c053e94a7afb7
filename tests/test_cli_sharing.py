"""`actome export`, `import` of a package, `push`, `pull`; and two laboratories, one of them without torch."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actome.store.archive import open as open_entry
from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.queries import top_tokens

from .store.location.servers import BUCKET, s3_server

DOCUMENT = Path(__file__).parents[1] / "docs" / "sharing.md"


@pytest.fixture
def call(call):
    """Run a command line as it stands in a document."""
    return lambda line: call(*shlex.split(line))


@pytest.fixture
def here(tiny, tmp_path, monkeypatch):
    """The working folder, with a recording and a catalog that names it."""
    monkeypatch.chdir(tmp_path)
    save(tiny, "tiny.zarr")
    Path("catalog.yaml").write_text(
        "version: 1\nsources:\n  words:\n    driver: zarr\n"
        '    args: {urlpath: "{{ CATALOG_DIR }}/tiny.zarr"}\n    metadata: {licence: CC0-1.0}\n'
    )
    return tmp_path


def test_export__and_import_as_the_document_says(call, here):
    assert call("export words -o package --author 'Ada Lovelace' --title Words") == (0, "package\n", "")
    assert "Ada Lovelace" in Path("package/CITATION.cff").read_text()
    status, out, err = call("import package -o archive")
    assert (status, err) == (0, "") and out == f"words: {here}/archive/words.zarr\n"
    assert call("import package -o archive")[1] == f"words: {here}/archive/words.zarr, there already\n"
    assert call("export words -o part.zip --layer 1 --condition a --dtype float16 --text digest")[0] == 0
    status, out, err = call("import part.zip -o archive")
    assert (
        (status, out) == (2, "") and "rename the package's, or overwrite it" in err and err.count("\n") == 1
    )
    assert call("import part.zip -o archive --rename words=part")[0] == 0
    ds = open_entry("part", catalog="archive/catalog.yaml")
    assert ds["layer"].to_numpy().tolist() == [1] and ds["activation"].dtype == np.float16
    assert ds["text"].to_numpy()[0].startswith("sha256:")
    assert call("import part.zip -o archive --overwrite")[0] == 0
    assert list(open_catalog("archive/catalog.yaml")) == ["words", "part"]


def test_export__dry_run_writes_nothing_and_says_how_much(call, here):
    before = sorted(here.rglob("*"))
    status, out, err = call("export words -o package --dry-run")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"words +([\d,]+) bytes\npackage: \1 bytes, beside the metadata\n", out)
    assert "up to" in call("export words -o package --layer 0 --dry-run")[1]
    assert call("push words s3://lab/words --dry-run")[0] == 0
    assert sorted(here.rglob("*")) == before
    status, out, err = call("export words -o tiny.zarr --dry-run")
    assert status == 2 and "there is something at tiny.zarr already" in err


def test_push_and_pull__carry_a_package(call, here):
    with s3_server():
        url = f"s3://{BUCKET}/words"
        status, out, err = call(f"push words {url}")
        assert (status, out, err) == (0, f"{url}: 7 files\n", "")
        assert call(f"pull {url} -o back") == (0, "back\n", "")
    assert call("import back -o archive")[0] == 0
    assert verify("archive/words.zarr") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("export nothing -o p", "no entry 'nothing'"),
        ("export words -o p --layer 7", "has no layer 7; it has [0, 1]"),
        ("export words -o p --text hide", "text must be 'keep' or 'digest', got 'hide'"),
        ("export words -o p.zip --packed", "packed entries go into a folder"),
        (
            "import tiny.zarr -o archive",
            "tiny.zarr is no package (a folder or .zip with catalog.yaml and SHA256SUMS)",
        ),
        ("import nowhere -o archive", "nowhere is no package"),
        ("push words ftp://lab", "push goes to s3://BUCKET/PREFIX or hf://datasets/ORG/NAME, got ftp://lab"),
        ("push nothing hf://datasets/a/b --dry-run", "no entry 'nothing'"),
        ("pull hf://a -o back", "names no dataset repository"),
        ("pull s3://lab/words -o tiny.zarr", "there is something at tiny.zarr already"),
    ],
)
def test_commands__wrong_input_is_one_line_status_2_and_writes_nothing(call, here, line, message):
    before = sorted(here.rglob("*"))
    status, out, err = call(line)
    assert (status, out) == (2, "")
    assert message in err and err.startswith("actome: ") and err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("option", ["--site mlp", "--dtype float16", "--labels l.csv", "--layer 1"])
def test_import__a_package_has_no_use_for_options_of_formats(call, here, option):
    call("export words -o package")
    status, _, err = call(f"import package -o archive {option}")
    assert status == 2 and f"a package has no use for {option.split()[0]}" in err
    status, _, err = call("import package -o archive --rename words")
    assert status == 2 and "--rename takes NAME=OTHER, got 'words'" in err


WITHOUT_TORCH = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "tokenizers"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
"""
IMPORT = """
from actome.cli import main
sys.argv[0] = "actome"
main()
"""
ANALYSE = """
import actome
from actome.store.catalog import open_catalog
from actome.store.queries import top_tokens

archive = sys.argv[1]
catalog = open_catalog(archive + "/catalog.yaml")
ds = catalog.open("phantom")
contrast = actome.compute_contrast(actome.fit_glm(ds, noise="cluster"), "CONTRAST").compute()
print(json.dumps({
    "breaches": actome.verify(archive + "/phantom.zarr") + actome.validate(archive + "/phantom.zarr"),
    "conditions": sorted(set(ds["condition"].to_numpy().tolist())),
    "tokens": top_tokens(ds, layer=0, neuron=5).to_csv(),
    "numbers": {v: contrast[v].to_numpy().tobytes().hex() for v in ("effect", "stat", "p_value")},
}))
"""


@pytest.mark.slow
def test_two_laboratories__get_equal_numbers_and_one_has_no_torch(call, tmp_path, monkeypatch):
    """Record, export, copy, import, verify, query, analyse: bit for bit the same."""
    from actome.analyze.contrasts import compute_contrast
    from actome.analyze.glm import fit_glm
    from actome.ingest.phantom import phantom_model
    from actome.ingest.record import record

    monkeypatch.chdir(tmp_path)
    one = phantom_model(seed=0)
    ds = record((one.module, one.tokenizer), one.paradigm, "phantom.zarr", progress=False)
    conditions = list(dict.fromkeys(ds["condition"].to_numpy()))
    expression = f"{conditions[0]} - {conditions[1]}"
    ours = compute_contrast(fit_glm(ds), expression).compute()
    assert call("export phantom.zarr -o package.zip")[0] == 0
    Path("second").mkdir()
    Path("package.zip").rename("second/package.zip")
    analyse = ANALYSE.replace("CONTRAST", expression)
    for code, arguments in (
        (IMPORT, "import second/package.zip -o second/archive"),
        (analyse, "second/archive"),
    ):
        command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH + code, *arguments.split()]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    assert found["tokens"] == top_tokens(ds, layer=0, neuron=5).to_csv()
    assert found["breaches"] == [] and found["conditions"] == sorted(conditions)
    for name, content in found["numbers"].items():
        assert content == ours[name].to_numpy().tobytes().hex(), name
    a, b = (
        Location.of(p).group().attrs["manifest_digest"]
        for p in ("phantom.zarr", "second/archive/phantom.zarr")
    )
    assert a == b


@pytest.mark.slow
def test_document__examples_run(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text(encoding="utf-8")
    save(tiny, "words.zarr")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).splitlines()
    local = [line for line in lines if line and "://" not in line and "fetched" not in line]
    assert len(local) == 4 and code
    for command in [["-m", *shlex.split(line)] for line in local] + [["-W", "error", "-c", code]]:
        out = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr
