"""The schema as a page of the documentation: ``python -m actome.store.schema_document`` writes it."""

from .schema import INDEX, ROOT, SITE, SITES, SUMMARY, VERSION, Variable

_HEAD = """# The recording, schema version {version}

<!-- Written by `python -m actome.store.schema_document`; a test compares the two. -->

A recording is one Zarr v3 group, `NAME.zarr`. Any Zarr v3 reader opens it; with xarray,
`xarray.open_datatree("NAME.zarr", engine="zarr")`. The root holds what all sites share, each site
is a child group, and each site holds a group `summary` of per-prompt moments.

A reader takes a prompt only where `recorded` is true. A finished recording also holds
`actome/manifest.json`, every file with its SHA-256, and the root attribute `manifest_digest`, the
digest of that file: one short string stands for every byte.
"""


def document() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD.format(version=VERSION), "## Sites\n", "| site | what is recorded |", "|---|---|"]
    parts += [f"| `{name}` | {meaning} |" for name, meaning in SITES.items()]
    for title, variables in (
        ("Root", ROOT),
        ("A site: `mlp`, ...", SITE),
        ("Its moments: `mlp/summary`, ...", SUMMARY),
        ("Its index: `actome/index/mlp`, ... (derived; not part of the digest)", INDEX),
    ):
        parts += [
            f"\n## {title}\n",
            "| variable | dims | type | required | meaning |",
            "|---|---|---|---|---|",
        ]
        parts += [_row(v) for v in variables]
    parts.append("\nAny further column of a paradigm's table is a variable (prompt) of the root.\n")
    return "\n".join(parts)


def _row(v: Variable) -> str:
    required = "yes" if v.required else ""
    return f"| `{v.name}` | {', '.join(v.dims)} | {' or '.join(v.dtypes)} | {required} | {v.meaning} |"


if __name__ == "__main__":
    print(document(), end="")
