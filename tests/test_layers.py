"""The import arrows: ingest -> store <- analyze, and no torch but in ingest."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"store": set(), "ingest": {"store"}, "analyze": {"store"}}
HEAVY = {"torch", "transformers", "tokenizers", "safetensors"}


def imports(path: Path) -> set[str]:
    """Top-level packages and rooms that a file imports; relative imports are resolved."""
    found = set()
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = list(parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = (node.module or "").split(".")
            found |= {names[1] if names[0] == "actome" and len(names) > 1 else names[0]}
        elif isinstance(node, ast.ImportFrom):
            module = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            module = [part for part in module if part]
            found |= {module[0]} if module and module[0] in ALLOWED else {a.name for a in node.names}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms__import_what_they_may(room):
    for path in (ROOT / room).rglob("*.py"):
        other = imports(path) & (set(ALLOWED) - {room})
        assert other <= ALLOWED[room], f"{path.relative_to(ROOT)} imports {other}"


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms__never_import_a_room_as_a_top_level_package(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {n.split(".")[0] for n in names} & set(ALLOWED), path.relative_to(ROOT)


@pytest.mark.parametrize("room", ["store", "analyze"])
def test_rooms__know_no_torch(room):
    for path in (ROOT / room).rglob("*.py"):
        assert not imports(path) & HEAVY, path.relative_to(ROOT)


def test_imports__the_checker_itself_sees_relative_and_absolute_imports(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_layers.ROOT", tmp_path)
    (tmp_path / "analyze" / "report").mkdir(parents=True)
    path = tmp_path / "analyze" / "report" / "x.py"
    path.write_text(
        "import torch.nn\nfrom ...ingest import models\nfrom actome.store import schema\nfrom .. import glm\n"
    )
    assert imports(path) >= {"torch", "ingest", "store"}


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import tempfile, numpy as np, actome
from actome.store.phantom import phantom
with tempfile.TemporaryDirectory() as folder:
    actome.save(phantom(), folder + "/p.zarr")
    ds = actome.open(folder + "/p.zarr")
    mask = actome.threshold(actome.compute_contrast(actome.fit_glm(ds), "a - mean(rest)"))
    nets = actome.networks(actome.group_ica(ds, n_components=2, n_runs=2), actome.Z(2))
    actome.identify(ds, n_permutations=2)
    actome.report(ds, actome.overlap(nets), out=folder + "/r.html")
try:
    actome.record
except ImportError as error:
    print(error)
"""


def test_analyses__run_where_torch_is_not_installed():
    out = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    refused = "running a model needs torch, which is not installed here"
    assert out.stdout.startswith(refused), out.stderr


def test_import__is_light():
    code = (
        "import sys, actome; print([m for m in ('numpy', 'xarray', 'torch', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
