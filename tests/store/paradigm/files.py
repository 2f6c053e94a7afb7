"""What the tests of paradigms share."""

from pathlib import Path


def written(folder: Path, text: str, name: str = "p.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(n: int = 40, conditions: tuple[str, ...] = ("a", "b", "rest")) -> list[dict[str, str]]:
    return [{"text": f"{c} {i}", "condition": c} for i in range(n) for c in conditions]
