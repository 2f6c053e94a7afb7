"""What the study published of its lesions, in the form of our own results."""

from typing import Final

import numpy as np
import xarray as xr

_N_NEURONS: Final = 9216  # of GPT-2
_WHOLE: Final = 0.8614  # accuracy on AG News
_SINGLE: Final = {  # network masked: neurons, accuracy
    "neurons": (37, 21, 57, 29, 36, 29, 15, 55, 15, 72),
    "accuracy": (0.8538, 0.6643, 0.8391, 0.8439, 0.5749, 0.8500, 0.8482, 0.7042, 0.6753, 0.8471),
}
# whole, random 15 % masked, ten networks masked
_GPT2: Final = {
    "CoLA": (0.7776, 0.7383, 0.5772),
    "MRPC": (0.7941, 0.7941, 0.7377),
    "QQP": (0.8758, 0.8717, 0.8104),
    "SST-2": (0.9163, 0.9083, 0.5436),
    "MNLI": (0.6847, 0.6879, 0.5995),
    "QNLI": (0.8746, 0.8569, 0.6811),
    "AG News": (0.8614, 0.8487, 0.5557),
    "SQuAD F1": (0.3397, 0.3154, 0.1342),
}
# whole, ten networks masked
_TASKS: Final = ("CoLA", "MRPC", "SST-2", "MNLI", "QNLI", "AG News", "SQuAD")
_LARGER: Final = {
    "Qwen2.5-3B-Instruct": (
        (0.6913, 0.6275, 0.8440, 0.2731, 0.3953, 0.7185, 0.2104),
        (0, 0.0172, 0, 0, 0, 0, 0.0057),
    ),
    "ChatGLM3-6B": (
        (0.6893, 0.8161, 0.9392, 0.2062, 0.1067, 0.9128, 0.9021),
        (0, 0.0441, 0.1422, 0, 0.0053, 0.0025, 0.0358),
    ),
}
_KEPT: Final = {  # components: neurons, accuracy
    10: (86, 0.6849),
    64: (394, 0.7039),
    128: (830, 0.8462),
    256: (1281, 0.8596),
    512: (1606, 0.8613),
}


def of_single() -> str:
    """Write what one masked network left of the accuracy."""
    sizes, accuracy = _SINGLE["neurons"], _SINGLE["accuracy"]
    return (
        f"GPT-2 on AG News: accuracy {max(accuracy):.4f} to {min(accuracy):.4f} of {_WHOLE:.4f}, one of "
        f"{len(sizes)} networks of {min(sizes)} to {max(sizes)} neurons masked."
    )


def of_random() -> str:
    """Write the accuracies of the whole model, of random neurons and of ten networks masked."""
    listed = "; ".join(f"{task} {' / '.join(f'{v:.4f}' for v in of)}" for task, of in _GPT2.items())
    return f"GPT-2, normal / random 15 % / ten networks (under 2 % of the neurons): {listed}."


def of_kept() -> str:
    """Write what is left of the accuracy with the networks' neurons alone."""
    points = ", ".join(
        f"{accuracy / _WHOLE:.1%} with {n} ({k} components)".replace("%", " %")
        for k, (n, accuracy) in _KEPT.items()
    )
    return f"GPT-2 on AG News, share of the accuracy of {_WHOLE:.4f} that is left: {points}."


def published_lesions() -> list[xr.Dataset]:
    """Return the study's tables of lesions and its preservation curve, as the report takes them."""
    names = [f"network {i}" for i in range(1, len(_SINGLE["neurons"]) + 1)]
    single = _masked("GPT-2, one network masked", names, ["AG News"], [_WHOLE], [_SINGLE["accuracy"]])
    single["size"] = ("network", np.array(_SINGLE["neurons"]))
    whole, at_random, ten = zip(*_GPT2.values(), strict=True)
    both = ["random 15 %", "ten networks"]
    tables = [
        single,
        _masked(
            "GPT-2, random neurons and ten networks masked",
            both,
            list(_GPT2),
            whole,
            list(zip(at_random, ten, strict=True)),
        ),
    ]
    for model, (intact, masked) in _LARGER.items():
        tables.append(
            _masked(
                f"{model}, ten networks masked",
                ["ten networks"],
                list(_TASKS),
                intact,
                [(v,) for v in masked],
            )
        )
    return [*tables, _preserved()]


def _masked(
    title: str,
    networks: list[str],
    tasks: list[str],
    whole: tuple[float, ...] | list[float],
    by_task: list[tuple[float, ...]],
) -> xr.Dataset:
    """Return accuracies under lesions, given by task: the effects (network, task) on it."""
    accuracy, baseline = np.array(by_task).T, np.array(whole)
    dims = ("network", "task")
    unknown = (dims, np.full(accuracy.shape, np.nan))
    return xr.Dataset(
        {
            "effect": (dims, baseline - accuracy, {"units": "share of the answers"}),
            "low": unknown,
            "high": unknown,
            "p_value": unknown,
            "p_corrected": unknown,
            "control": (("network", "draw", "task"), np.empty((len(networks), 0, len(tasks)))),
            "accuracy": (dims, accuracy),
            "accuracy_baseline": ("task", baseline),
        },
        coords={"network": np.array(networks, dtype=object), "task": np.array(tasks, dtype=object)},
        attrs={"kind": "effects", **_PUBLISHED, "title": f"Published: {title}"},
    )


def _preserved() -> xr.Dataset:
    n_kept, accuracy = (np.array(values) for values in zip(*_KEPT.values(), strict=True))
    dims = ("point", "task")
    unknown = (dims, np.full((len(_KEPT), 1), np.nan))
    return xr.Dataset(
        {
            "effect": (dims, _WHOLE - accuracy[:, None], {"units": "share of the answers"}),
            "low": unknown,
            "high": unknown,
            "p_value": unknown,
            "control": (("point", "draw", "task"), np.empty((len(_KEPT), 0, 1))),
            "baseline": ("task", [-_WHOLE]),
            "n_kept": ("point", n_kept),
            "share_kept": ("point", n_kept / _N_NEURONS),
        },
        coords={
            "point": np.array([f"{k} components" for k in _KEPT], dtype=object),
            "task": np.array(["AG News"], dtype=object),
        },
        attrs={
            "kind": "preservation",
            **_PUBLISHED,
            "title": "Published: GPT-2, all but the networks masked",
        },
    )


_PUBLISHED: Final = {"published": True, "by": "task", "metric": "accuracy", "lesion": "zero"}
