"""Recording: a model is shown a paradigm, and its activations become a recording."""

import os
import sys
from collections.abc import Sequence

import xarray as xr
from tqdm import tqdm

from ..store.arguments import whole_numbers
from ..store.paradigm import Paradigm
from .forward import Sampling
from .models import ModelLike
from .plan import Keep, Settings, Sites, site_names
from .recorder import Part, prepare
from .tokens import Prompting, Selection, SpecialTokens


def record(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sites: Sites = ("mlp",),
    layers: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    tokens: str = "prompt",
    max_new_tokens: int = 20,
    temperature: float = 0.0,
    top_p: float = 1.0,
    chat: bool = False,
    special_tokens: SpecialTokens = "tokenizer",
    truncate: int | None = None,
    logprob: bool = True,
    keep: Keep = "full",
    batch_size: int | None = None,
    dtype: str | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    part: Part | None = None,
    seed: int = 0,
    resume: bool = True,
    index: bool = True,
    progress: bool | None = None,
) -> xr.Dataset:
    """Show a paradigm to a model and keep its activations.

    An interrupted run goes on where it stopped when the same command is given again; a finished
    one is opened at once.

    Parameters
    ----------
    model
        ``"demo"``, a Hugging Face id, a local folder, a loaded module, (module, tokenizer), or what
        `load_model` gives.
    paradigm
        What to show, the path of its YAML, or the name of one that ships with Actome.
    out
        Where the recording goes: ``NAME.zarr``.
    sites
        Places in the network, keys of ``store.schema.SITES``; or a mapping from them to modules
        named by hand, such as ``{"mlp": "model.layers.{}.mlp.down_proj"}``.
    layers, neurons
        Which ones; all by default.
    tokens
        "prompt"; "last"; a slice of each prompt's tokens as Python writes it ("1:" without the first,
        "::4", "2:10"); or "generated": the tokens with which the model goes on, as it reads them.
    max_new_tokens, temperature, top_p
        Of generated tokens: the most a prompt, what divides the logits (0 takes the likeliest token),
        and the probability that the drawn tokens have together.
    chat
        Show each text in the tokenizer's chat template.
    special_tokens
        "tokenizer": as it adds them by itself; "bos": also the begin-of-sequence token; "none".
    truncate
        Keep this many tokens of a prompt; by default a prompt beyond the model's context is refused.
    logprob
        Keep the log probability of each token. Without it the language-model head is not run.
    keep
        "full": every activation. "summary": the moments of each prompt alone.
    batch_size
        Prompts in a forward pass; by default as many as the memory and the device suggest. A batch
        that does not fit after all is halved.
    dtype
        Type in the store: "float16" or "float32"; by default float16, unless a value comes near its
        limit.
    device
        Where the model runs; by default the GPU where there is one; "auto" spreads it over all.
    trust_remote_code
        Run the code that a model brings with it.
    part
        (k, n): this process is the k-th of n, from 0, that record one archive together. Each takes
        every n-th unit, the last to end finalises; the one with k = 0 begins.
    seed
        Decides the tokens that are drawn.
    resume
        False refuses a path that holds a recording already.
    index
        When all is recorded, read it once more to find what each neuron answers to: `top_tokens` and
        the other questions then read no activation. `build_index` does it later.
    progress
        Show the forecast and a progress bar; by default only on a terminal.

    Returns
    -------
    Dataset
        As ``actome.open(out, site=sites[0])`` gives it.

    Warns
    -----
    UserWarning
        Values were clipped to what float16 holds, as dtype="float16" asks for; or the model gave
        values that are not finite. The numbers of both stay with the recording. Or a recording that
        chose float16 by itself met a larger value, and was begun again in float32.

    Raises
    ------
    InputError, InputTypeError
        An argument that does not fit the model, a path that cannot be written, a disk that cannot
        hold the recording, one that another process is making, or one at `out` that was made with
        another model, tokenizer, paradigm or setting; the message names what differs.
    MissingFileError
        There is no such model or paradigm.
    """
    settings = Settings(
        sites=site_names(sites),
        layers=whole_numbers(layers, "layers"),
        neurons=whole_numbers(neurons, "neurons"),
        selection=Selection.of(tokens),
        sampling=Sampling(max_new_tokens, temperature, top_p, seed),
        prompting=Prompting(chat, special_tokens, truncate),
        keep=keep,
        logprob=logprob,
        batch_size=batch_size,
        dtype=dtype,
    )
    recorder = prepare(
        model, paradigm, out, settings,
        device=device, trust_remote_code=trust_remote_code, part=part, resume=resume,
    )  # fmt: skip
    shown = sys.stderr.isatty() if progress is None else progress
    if shown and not recorder.is_complete:
        tqdm.write(str(recorder.forecast()), file=sys.stderr)
    return recorder.run(progress=shown, index=index)
