"""`actome index` and `actome query`: the answers of the public functions, and clear refusals."""

import json

import pytest

import actome


def asked(call, path, *args):
    status, out, err = call("query", path, *args, "--json")
    assert status == 0, err
    return json.loads(out)


@pytest.fixture
def indexed(call, tiny_path):
    status, out, _ = call("index", tiny_path)
    assert (status, out) == (0, f"{tiny_path}: indexed\n")
    return tiny_path


def test_query__answers_as_the_functions_do(call, indexed):
    cube, moments = actome.open(indexed), actome.open(indexed, level="prompt")
    prompt = str(cube["prompt"].to_numpy()[0])
    questions = {
        ("--top", "1:2", "-k", 3): actome.top_tokens(cube, layer=1, neuron=2, k=3),
        ("--like", "1:2", "--measure", "signed"): actome.similar_neurons(
            moments, layer=1, neuron=2, measure="signed"
        ),
        ("--selective", "--by", "run", "-k", 2): actome.selective_neurons(moments, by="run", k=2),
        ("--token", "#3"): actome.token_neurons(cube, token=3),
        ("--fires", f"{prompt}:1"): actome.firing_neurons(cube, prompt=prompt, token=1),
        ("--sql", "SELECT prompt FROM prompts"): actome.sql(indexed, "SELECT prompt FROM prompts"),
    }
    for args, table in questions.items():
        assert asked(call, indexed, *args) == json.loads(table.to_json(orient="records"))


def test_query__prints_a_table(call, indexed):
    status, out, _ = call("query", indexed, "--top", "0:1", "-k", 2)
    assert status == 0 and out.split()[0] == "activation" and len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give one of --top, --like, --selective, --token, --fires, --sql, got none"),
        (("--top", "0:1", "--selective"), "got --top and --selective"),
        (("--top", "3"), "--top must be LAYER:NEURON, such as 3:117, got '3'"),
        (("--like", "a:b"), "--like must be LAYER:NEURON"),
        (("--fires", "p7"), "--fires must be PROMPT:TOKEN"),
        (("--top", "9:1"), "there is no layer 9 among 2"),
        (("--sql", "SELEC"), "the query failed"),
        (("--selective", "--by", "colour"), "no label 'colour'"),
    ],
)
def test_query__a_wrong_question_is_one_line(call, indexed, args, message):
    status, out, err = call("query", indexed, *args)
    assert (status, out) == (2, "") and err.count("\n") == 1 and message in err


def test_index__of_nothing_is_one_line(call, tmp_path):
    status, _, err = call("index", tmp_path / "none.zarr")
    assert status == 2 and err.count("\n") == 1
