"""Make the recordings that every later version must read: ``python tests/reference/make_recording_v1.py``.

Run once, for schema version 1; the files are never made again. What they hold is written down from
plain zarr, not by our reader: shapes, types, digests of the values, and texts.
"""

import hashlib
import json
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import actome
from actome.ingest.phantom import phantom_model
from actome.store.provenance import library_versions

HERE = Path(__file__).parent
KINDS: dict[str, dict[str, Any]] = {
    "prompts": {"sites": ("mlp", "residual")},
    "generated": {"tokens": "generated", "max_new_tokens": 5, "keep": "summary"},
}


def describe(array: zarr.Array[Any]) -> dict[str, Any]:
    values = np.asarray(array[:])
    out: dict[str, Any] = {"dims": list(array.metadata.dimension_names), "shape": list(values.shape)}
    if values.dtype.kind in "OUT":
        return out | {"values": [str(v) for v in values]}
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return out | {"dtype": values.dtype.name, "sha256": hashlib.sha256(little.tobytes()).hexdigest()}


def arrays(group: zarr.Group, prefix: str = "") -> dict[str, dict[str, Any]]:
    out = {}
    for name, member in sorted(group.members()):
        path = f"{prefix}{name}"
        out |= arrays(member, f"{path}/") if isinstance(member, zarr.Group) else {path: describe(member)}
    return out


def pack(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            file.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> None:
    warnings.filterwarnings("ignore", message="Object at .* is not recognized")  # what is not an array
    phantom = phantom_model()
    for kind, options in KINDS.items():
        folder = Path(tempfile.mkdtemp()) / f"{kind}.zarr"
        paradigm = phantom.paradigm.select(run=0)
        actome.record((phantom.module, phantom.tokenizer), paradigm, folder, seed=1, **options)
        held = {
            "made_with": library_versions(),
            "manifest_digest": zarr.open_group(folder, mode="r").attrs["manifest_digest"],
            "arrays": arrays(zarr.open_group(folder, mode="r")),
            "index": arrays(zarr.open_group(folder / "actome/index", mode="r"))
            if (folder / "actome/index/zarr.json").exists()
            else {},
        }
        pack(folder, HERE / f"recording_v1_{kind}.zarr.zip")
        (HERE / f"recording_v1_{kind}.json").write_text(json.dumps(held, indent=1), encoding="utf-8")
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
