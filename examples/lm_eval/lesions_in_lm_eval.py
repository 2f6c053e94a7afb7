"""Another evaluator inside a lesion: lm-eval on the demo model, offline, with and without a network.

``pip install "actome[ingest,lm-eval]"``, then ``python examples/lm_eval/lesions_in_lm_eval.py``

A network of Russian is selected on two runs of the demo's paradigm. The passages of the third become tasks
of lm-eval, one a language, from files of this machine alone. lm-eval answers them inside
``with actome.lesion(...)``, which changes the module that it runs, and nothing of lm-eval.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import actome
from actome.ingest.models import LoadedModel, load_model

HELD_OUT_RUN, LESIONED = 2, "ru"
LANGUAGES = ("ru", "de", "fr", "el")
TEMPLATE = Path(__file__).with_name("texts.yaml")


def write_tasks(folder: Path, paradigm: actome.Paradigm) -> None:
    """Write a task and its texts for each language."""
    for language in LANGUAGES:
        rows = paradigm.select(condition=language).table[["text"]].to_dict(orient="records")
        file = folder / f"{language}.jsonl"
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        file.write_text(lines, encoding="utf-8")
        task = TEMPLATE.read_text(encoding="utf-8")
        task = task.replace("LANGUAGE", language).replace("FILE", str(file))
        (folder / f"{language}.yaml").write_text(task, encoding="utf-8")


def bits_per_byte(model: LoadedModel, folder: Path) -> dict[str, float]:
    """Let lm-eval answer the tasks that are in a folder."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    harness: Any = HFLM(pretrained=model.module, tokenizer=model.tokenizer, batch_size=8)
    tasks = [f"texts_{language}" for language in LANGUAGES]
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    out = simple_evaluate(harness, tasks=tasks, task_manager=manager, bootstrap_iters=0, log_samples=False)
    return {
        language: round(out["results"][task]["bits_per_byte,none"], 3)
        for language, task in zip(LANGUAGES, tasks, strict=True)
    }


def main() -> None:
    """Print the bits without a lesion, with it, and after it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/lm_eval", help="where the recording is kept")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    paradigm = actome.Paradigm.read("languages")
    recording = actome.record("demo", paradigm, f"{options.out}/languages.zarr", keep="summary")
    selecting = recording.isel(prompt=np.flatnonzero(recording["run"] != HELD_OUT_RUN))
    contrast = actome.compute_contrast(actome.fit_glm(selecting), f"{LESIONED} - mean(rest)")
    mask = actome.threshold(contrast, control="bonferroni")
    model = load_model("demo", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tasks(folder, paradigm.select(run=HELD_OUT_RUN))
        print("whole            ", bits_per_byte(model, folder))
        with actome.lesion(model, mask):
            print(f"without {LESIONED} network", bits_per_byte(model, folder))
        print("whole again      ", bits_per_byte(model, folder))


if __name__ == "__main__":
    main()
