"""Every public name and command is documented, and what the documents name exists."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import actome
from actome.cli import app
from actome.store import schema, schema_document

ROOT = Path(__file__).parents[1]
DOCS = "\n".join(p.read_text(encoding="utf-8") for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("name", [n for n in actome.__all__ if n != "__version__"])
def test_public_name__has_a_docstring_and_stands_in_the_documents(name):
    value = getattr(actome, name)
    assert inspect.getdoc(value)
    assert re.search(rf"\b{name}\b", DOCS), f"{name} is not in README or docs"
    if inspect.isfunction(value):
        undocumented = [
            p for p in inspect.signature(value).parameters if p not in (inspect.getdoc(value) or "")
        ]
        assert not undocumented, f"{name} says nothing of {undocumented}"


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))
def test_command__has_help_and_stands_in_the_documents(command):
    assert typer.main.get_command(app).commands[command].help
    assert re.search(rf"actome {command}\b", DOCS)


VARIABLES = (*schema.ROOT, *schema.SITE, *schema.SUMMARY, *schema.INDEX)


@pytest.mark.parametrize("variable", [v.name for v in VARIABLES])
def test_variable__stands_in_the_documents(variable):
    assert f"`{variable}`" in DOCS


def test_schema_page__is_the_one_that_the_declarations_make():
    assert (ROOT / "docs" / "schema.md").read_text(encoding="utf-8") == schema_document.document()


def test_documents__name_no_function_that_is_not_there():
    named = set(re.findall(r"actome\.(\w+)\(", DOCS))
    assert named and named <= set(actome.__all__)


def test_documents__python_examples_parse():
    blocks = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/quickstart.md", "docs/queries.md"])
def test_documents__python_examples_run(document, tmp_path):
    text = (ROOT / document).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run = [sys.executable, "-W", "error", "-c", code.replace("controls=9", "controls=1")]
    out = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert ("arithmetic" if "queries" in document else "ru") in out.stdout


def test_documents__links_lead_to_files():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_public_names__are_all_exported_by_the_facade():
    assert sorted(actome._HOME) == sorted(set(actome.__all__) - {"__version__"})
    with pytest.raises(AttributeError, match="no attribute 'brain'"):
        getattr(actome, "brain")  # noqa: B009
