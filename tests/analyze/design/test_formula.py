import numpy as np
import pytest
from scipy.interpolate import BSpline

from actome.analyze.design import design_matrix
from actome.store.errors import ActomeError

from .labelled import CONDITION, RUN, labelled

TOUCH = "__import__('pathlib').Path('pwned').touch()"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("tongue", r"names \['tongue'\], which the recording lacks; its labels are \['prompt', 'condition'"),
        ("np", r"names \['np'\], which the recording lacks"),
        ("", "formula is empty"),
        ("condition +", "cannot be read"),
        ("condition + .", "cannot be read"),
        ("x ~ condition", "must have one side"),
        ("x | condition", "must have one side"),
        ("log(x)", r"\['log\(x\)'\] hold values that are not finite"),
        ("log(x - 9)", "cannot be applied to .'x'.: .*null values"),
        ("poly(condition, 2)", "cannot be applied to .'condition'."),
        ("C(x, levels=3)", "cannot be applied to .'x'."),
        ("text", "8 prompts are too few for 10 regressors"),
    ],
)
def test_design_matrix__refuses_a_formula(formula, message):
    text = [f"t{i}" for i in range(8)]
    ds = labelled(condition=CONDITION, run=RUN, text=text, x=[0.0, 1.5, 0.5, 1.0, 2.0, 3.0, 4.0, 7.0])
    with pytest.raises(ValueError, match=message) as caught:
        design_matrix(ds, formula)
    assert isinstance(caught.value, ActomeError)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os')",
        "__import__('os').getpid()",
        "{().__class__}",
        "{np.load('f')}",
        "open('f')",
        "{[i for i in x]}",
        "{x if x else x}",
        "{f'{x}'}",
        "{x[0]}",
        "{x @ x}",
        "{1 << 99}",
        "{9**9**9}",
        "{(lambda: x)()}",
        "{" + "-" * 5000 + "x}",
        "x.mean()",
        "Q('x')",
        "hashed(x)",
        "{contr.__class__}",
        "C(condition, contr.sum.__init__)",
        f"{{{TOUCH}}}",
        f"{{{TOUCH}()}}",  # what is called is run where only the variables of a formula are listed
        f"{{{TOUCH}()}} ~ condition",
        f'C("`" + {TOUCH} + "`")',  # backticks in text are none
        f'{{scale("`" + {TOUCH} + "`")}}',
        f"{{scale('`' + {TOUCH} + '`')}}",
        f'{{scale("\\"`" + {TOUCH} + "`")}}',
        f"{{scale('''`''' + {TOUCH} + '''`''')}}",
        f"{{`a' + {TOUCH} + '`}}",
    ],
)
def test_design_matrix__never_runs_what_a_formula_holds(formula, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ds = labelled(condition=CONDITION, run=RUN, x=[0.0, 1.5, 0.5, 1.0, 2.0, 3.0, 4.0, 7.0])
    with pytest.raises(ValueError, match=r"is not allowed|cannot be read") as caught:
        design_matrix(ds, formula)
    assert isinstance(caught.value, ActomeError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("formula", "regressors"),
    [
        ("condition:x", ["Intercept", "condition[a]:x", "condition[b]:x", "condition[c]:x"]),
        (
            "C(condition, contr.treatment('b'))",
            [
                "Intercept",
                "C(condition, contr.treatment('b'))[T.a]",
                "C(condition, contr.treatment('b'))[T.c]",
            ],
        ),
        ("poly(x, 2)", ["Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]"]),
        ("~ center(`my x`)", ["Intercept", "center(`my x`)"]),
        ("{x / 2} - 1", ["x / 2"]),
    ],
)
def test_design_matrix__names_the_terms_of_a_formula(formula, regressors, rng):
    x = rng.random(16).tolist()
    ds = labelled(condition=CONDITION * 2, x=x, **{"my x": x})
    assert design_matrix(ds, formula).regressor.to_numpy().tolist() == regressors


def test_design_matrix__splines_are_those_of_scipy(rng):
    x = np.sort(rng.random(40))
    ours = design_matrix(labelled(x=x.tolist()), "bs(x, df=6)").design[:, 1:].to_numpy()
    inner = np.quantile(x, np.linspace(0, 1, 5))[1:-1]
    knots = np.concatenate([[x.min()] * 4, inner, [x.max()] * 4])
    theirs = BSpline.design_matrix(x, knots, 3).toarray()
    np.testing.assert_allclose(ours, theirs[:, 1:], atol=1e-12)


def test_design_matrix__refuses_natural_splines_beside_a_constant(rng):
    ds = labelled(x=rng.random(20).tolist())
    with pytest.raises(ValueError, match=r"'Intercept', 'cr\(x, df=4\)\[1\]'.*depend on each other.*'0 \+"):
        design_matrix(ds, "cr(x, df=4)")
    assert design_matrix(ds, "0 + cr(x, df=4)").regressor.size == 4
