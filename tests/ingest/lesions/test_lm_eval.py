"""Another evaluator inside a lesion: lm-eval, where it is installed, on a task file of this machine."""

import json

import numpy as np
import pytest

import actome

TASK = """
task: next_words
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{}"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lesion__reaches_what_lm_eval_measures(model, phantom, masks, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    rows = []
    for i, text in enumerate(phantom.paradigm.table["text"]):
        *words, last = text.split()
        others = [f"{last[0]}{j}" for j in range(12) if f"{last[0]}{j}" != last][i % 8 : i % 8 + 2]
        rows.append({"text": " ".join(words), "choices": [others[0], last, others[1]], "answer": 1})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task.yaml").write_text(TASK.format(tmp_path / "rows.jsonl"))

    def accuracy():
        harness = HFLM(phantom.module, tokenizer=phantom.tokenizer, batch_size=4, prefix_token_id=0)
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        out = lm_eval.simple_evaluate(harness, tasks=["next_words"], task_manager=manager, bootstrap_iters=0)
        return out["results"]["next_words"]["acc,none"]

    table = phantom.paradigm.table.assign(
        text=[row["text"] for row in rows], choices=["|".join(row["choices"]) for row in rows], answer=1
    )
    scores = actome.score(model, actome.Paradigm(table), tmp_path / "s.zarr", masks, controls=0).load()
    whole = accuracy()
    for name in ("a", "b"):
        with actome.lesion(model, masks.sel(network=name)):
            inside = accuracy()
        ours = scores["correct"].sel(lesion=f"{name}/target").mean().item()
        assert inside == pytest.approx(ours) and inside < whole - 0.2
    assert accuracy() == whole == pytest.approx(scores["correct"].sel(lesion="baseline").mean().item())
    assert np.isfinite(whole)
