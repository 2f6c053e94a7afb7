"""The command that scores texts under lesions: `lesion`."""

from typing import Annotated, Any

import typer

from .effects import effects_text, refuse_taken_effects, saved_effects
from .options import CatalogOption, Out, Where, chosen_prompts, contrasts_of, masks_of
from .recording import local_device, share_of


def lesion(
    model: Annotated[str, typer.Argument(help="'demo', a Hugging Face id, or a local folder.")],
    paradigm: Annotated[
        str, typer.Argument(help="The texts to score: a YAML, or the name of a shipped one.")
    ],
    masks: Annotated[str, typer.Argument(help="Saved contrasts, components or masks.")],
    out: Out,
    reference: Annotated[
        str | None, typer.Option(help="A recording that the controls are matched on.")
    ] = None,
    kind: Annotated[str, typer.Option(help="zero, mean, resample, noise, scale or add.")] = "zero",
    amount: Annotated[
        list[float] | None, typer.Option(help="For scale, add and noise; given again for several doses.")
    ] = None,
    keep_only: Annotated[bool, typer.Option("--keep-only", help="Change all neurons but these.")] = False,
    controls: Annotated[int, typer.Option(help="Matched random controls per network.")] = 99,
    selectivity: Annotated[
        str | None, typer.Option(help="Saved contrasts: a control of the least selective neurons too.")
    ] = None,
    untrained: Annotated[int, typer.Option(help="Untrained copies in which networks are lesioned too.")] = 0,
    hits: Annotated[bool, typer.Option("--hits", help="Keep which tokens were the likeliest.")] = False,
    kl: Annotated[bool, typer.Option("--kl", help="Keep the divergence from the whole model.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Let the model continue each text by so many.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of the continuations; 0 takes the likeliest.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Probability that the drawn tokens have together.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Draws the controls and all else that is drawn.")] = 0,
    part: Annotated[str | None, typer.Option(help="K/N: one of N processes; torchrun sets it.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda:0.")] = None,
    where: Where = None,
    site: Annotated[str, typer.Option(help="Site of the neurons.")] = "mlp",
    catalog: CatalogOption = None,
) -> None:
    """Score texts under the lesion of each network and of its controls; save and print the effects."""
    from ..ingest.score import score
    from ..store.archive import open as open_recording

    refuse_taken_effects(out)
    against = None
    if reference is not None:  # values of single tokens are taken from the cube alone
        level = None if kind == "resample" else "prompt"
        against = open_recording(reference, site=site, level=level, catalog=catalog)  # type: ignore[arg-type]
    share = share_of(part)
    scores = score(
        model, chosen_prompts(paradigm, where), out, masks_of(masks, catalog),
        site=site, kind=kind, amount=_doses(amount), reference=against,  # type: ignore[arg-type]
        keep_only=keep_only, controls=controls, selectivity=_selectivity(selectivity, catalog),
        untrained=untrained, hits=hits, kl=kl,
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
        seed=seed, part=share, device=device or local_device(share),
    )  # fmt: skip
    if "manifest_digest" not in scores.attrs:
        print(f"{out}: this part is scored, others are not yet")
        return
    for path, effects in saved_effects(scores, out, seed).items():
        print(path)
        print(effects_text(effects))
    if "completion" in scores and "parsed" not in scores:
        print(f"{out} holds what the model wrote, `completion`; no text has choices to count it by")


def _doses(amounts: list[float] | None) -> float | list[float] | None:
    if not amounts:
        return None
    return amounts[0] if len(amounts) == 1 else amounts


def _selectivity(name: str | None, catalog: list[str] | None) -> Any:
    """Read the statistic of saved contrasts."""
    return None if name is None else contrasts_of(name, catalog)["stat"].load()
