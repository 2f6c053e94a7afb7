"""Write the generated rows of ``tasks.csv``, ``localizer.csv`` and ``arithmetic.csv``.

Written rows are read from the tables and stay as they are; random strings, nonwords and arithmetic are
drawn anew, matched to them in the number of words (strings and nonwords in the length of each word, too).
Needs nothing but Python::

    python examples/paradigms/make_strings.py
"""

from __future__ import annotations

import argparse
import csv
import random
import string
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PER_BLOCK, RUNS = 6, 2

ONSETS = "b bl br c cl cr d dr f fl fr g gl gr h j k l m n p pl pr r s sk sl sm sp st t tr v w z".split()
NUCLEI = "a e i o u a e i o u ai ea ee oa oo".split()
CODAS = ["", "", "", *"b ck d f ft g k ld lk lp lt m mp n nd nk nt p rb rd rf rk rn rp rt sk sp st t".split()]
# What these syllables made by chance that stands in a dictionary, or sounds like it.
WORDS = frozenset(
    """
    ab ad af aft ai aid aim ak alt am amp an and ant ap ark art ask asp at ba bald ban banned be bed
    bend bern bid bit bland blu boo bra break breast bred brit broad brock broom bun burp but ca cad
    cat ci cid clop clot cluck clump clunk co coast cock con coo cop crack cramp crud cu da dab dart
    de dead deb dee deed di dig dip do dock dolt dork drag duck dump dusk ea earn east eat ed eeg
    elk em en end esp est et fe feb fed fee fend fib fla flab flak flask flit float flop flu fog
    folk fop frack frag free fret fro frond frost fud fum fund ga gag ge gee gen gent gi gif gleam
    glib glum go gob goof gop grand great gun ha had ham han hard hart he heft help hem hi ho hob
    holt honk hop hot id if ilk imp in ink int ip irk isp it jam jan jed jerk jib jim jo jot jump
    jun jut keck ken kent kick kin kink ko la lag lam lard lee len lent lest li lick lisp lo loam
    lob loon lost lot lu ma mack mask mat me meek mild mo mob mold mom monk mood mu mug murk musk na
    ned ni nig nob nu nub oaf oak ob od of oft ok old om on oort op orb ot pa pack park pat pea pen
    pest pi pick pip pit pled plo plonk po pod pot pram prim pu pulp pun punt ra rat re red ref rep
    rick rift roam rod ron rot roved ru rug rump rusk rust rut sam san sea seam sep sid sift silk
    skeet ski slam slant sleek slim slob smog so sob son spa spain spit spook spun spurn spurt stain
    stalk stank stick stu su sum sup ta tab tad taft tan tart tat tent tern ti tint tip tit to told
    ton too torn tot tree trot trump trunk trust turd uk um ump un up urn ut va vain van vast veld
    vi volt wa wan we weep wi wild wilt wink won woof wu zap zen
    """.split()
)


def written(path: Path, *, generated: str) -> list[dict[str, str]]:
    """Rows of a table that were written: all but those of the condition that is generated."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["condition"] != generated]
    return sorted(rows, key=lambda row: int(row.get("item", 0)))


def random_strings(prompts: list[str], n: int, rng: random.Random) -> Iterator[str]:
    """`n` strings of letters and digits, with words as long as those of the prompts."""
    for prompt in rng.sample(prompts, n):
        yield " ".join(
            "".join(rng.choices(string.ascii_letters + string.digits, k=len(w))) for w in prompt.split()
        )


def nonword(length: int, rng: random.Random) -> str:
    """Draw a pronounceable string of so many letters that is no word."""
    while True:
        word = ""
        while len(word) < length:
            onset = "" if not word and rng.random() < 0.2 else rng.choice(ONSETS)
            word += onset + rng.choice(NUCLEI) + rng.choice(CODAS)
        if len(word) == length and word not in WORDS:
            return word


def nonword_lists(sentences: list[str], rng: random.Random) -> Iterator[str]:
    """For each sentence nonwords of the same lengths; none of over three letters stands twice."""
    used: set[str] = set()
    for sentence in sentences:
        words: list[str] = []
        for original in sentence.rstrip(".").split():
            word = nonword(len(original), rng)
            while word in words or word in used:
                word = nonword(len(original), rng)
            words.append(word)
        used |= {word for word in words if len(word) > 3}
        yield " ".join(words).capitalize() + "."


SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen".split()
SMALL += "fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def spelled(number: int) -> str:
    """Write a number below a thousand in words.

    >>> spelled(247)
    'two hundred forty-seven'
    """
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{SMALL[number % 10]}" if number % 10 else "")
    return f"{SMALL[number // 100]} hundred" + (f" {spelled(number % 100)}" if number % 100 else "")


# {ab} is a + b, {p} the product of a and b, {pc} that plus c; results are whole and above zero.
SYMBOLS = {
    "sum": [
        "{a} + {b} + {c} + {d} = {abcd}",
        "adding {c} to {a} + {b} gives {abc} in all",
        "{a} + {b} = {ab} and {ab} + {c} = {abc}",
        "if x = {a} then {b} + x + {c} = {abc}",
    ],
    "difference": [
        "{abcd} - {b} - {c} - {d} = {a}",
        "take {b} from {abc} - {c} to get exactly {a}",
        "{abc} - {c} = {ab} and {ab} - {b} = {a}",
        "if x = {b} then {abc} - x - {c} = {a}",
    ],
    "product": [
        "{a} * {b} = {p} = {b} * {a}",
        "multiply {a} by {b} and add {c} to get {pc}",
        "{a} * {b} = {p} and {p} + {c} = {pc}",
        "if x = {a} then {b} * x + {c} = {pc}",
    ],
    "quotient": [
        "{p} / {a} + {c} + {d} = {bcd}",
        "divide {p} by {a} and add {c} to get {bc}",
        "{p} / {b} = {a} because {a} * {b} = {p}",
        "if x = {a} then {p} / x + {c} = {bc}",
    ],
}
SPELLED = {
    "sum": [
        "adding {a} to {b} gives {ab}",
        "the sum of {a}, {b} and {c} is {abc}",
        "{a} plus {b} equals {ab}, and {c} more makes {abc}",
    ],
    "difference": [
        "the difference between {ab} and {b} is {a}",
        "if we take {b} from {ab}, we have {a} left",
        "{ab} minus {b} leaves {a}, and {a} plus {b} is {ab}",
    ],
    "product": [
        "the product of {a} and {b} plus {c} is {pc}",
        "{a} boxes with {b} eggs each contain {p} eggs",
        "{a} times {b} equals {p}, as does {b} times {a}",
    ],
    "quotient": [
        "{p} apples shared among {b} children make {a} apples each",
        "{p} divided by {b} equals {a}, for {b} times {a} is {p}",
        "dividing {p} by {b} and adding {c} gives {bc}",
    ],
}
NOTATIONS: dict[str, tuple[dict[str, list[str]], Callable[[int], str]]] = {
    "symbols": (SYMBOLS, str),
    "words": (SPELLED, spelled),
}


def problem(operation: str, notation: str, rng: random.Random) -> str:
    """One true statement of arithmetic."""
    templates, written_as = NOTATIONS[notation]
    largest = 89 if operation in ("sum", "difference") else 19
    a, b, c, d = rng.sample(range(3, largest), 4)
    values = {"a": a, "b": b, "c": c, "d": d, "ab": a + b, "abc": a + b + c, "abcd": a + b + c + d}
    values |= {"p": a * b, "pc": a * b + c, "bc": b + c, "bcd": b + c + d}
    template = rng.choice(templates[operation])
    text = template.format(**{k: written_as(v) for k, v in values.items() if f"{{{k}}}" in template})
    return text[0].upper() + text[1:] + "."


def problems(sentences: list[str], rng: random.Random) -> Iterator[dict[str, str]]:
    """For each sentence a problem of as many words; operations and notations about equally often."""
    often = Counter({(o, n): 0 for o in SYMBOLS for n in NOTATIONS})
    used: set[str] = set()
    for sentence in sentences:
        operation, notation = min(often, key=lambda kind: (often[kind], rng.random()))
        text = problem(operation, notation, rng)
        while len(text.split()) != len(sentence.split()) or text in used:
            text = problem(operation, notation, rng)
        used.add(text)
        often[operation, notation] += 1
        yield {"text": text, "operation": operation, "notation": notation}


def laid_out(first: list[dict[str, str]], second: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Alternate blocks of two conditions, each before the other in turn; what is matched shares a run."""
    block = 0
    for start in range(0, len(first), PER_BLOCK):
        pair = [first, second] if start // PER_BLOCK % 2 == 0 else [second, first]
        for rows in pair:
            for item in range(start, start + PER_BLOCK):
                run = item * RUNS // len(first)
                yield {**rows[item], "block": str(block), "run": str(run), "item": str(item)}
            block += 1


def tasks(folder: Path, seed: int) -> list[dict[str, str]]:
    """Return the tasks with their strings, which come before the other topics."""
    rows = written(folder / "tasks.csv", generated="random_strings")
    other = [row for row in rows if row["condition"] == "other"]
    prompts = [row for row in rows if row["condition"] != "other"]
    n = len(prompts) // len({row["condition"] for row in prompts})
    strings = random_strings([row["text"] for row in prompts], n, random.Random(f"strings {seed}"))
    return [*prompts, *({"text": text, "condition": "random_strings"} for text in strings), *other]


def localizer(folder: Path, seed: int) -> list[dict[str, str]]:
    """Return the sentences, and for each its nonwords."""
    rows = written(folder / "localizer.csv", generated="nonwords")
    lists = nonword_lists([row["text"] for row in rows], random.Random(f"nonwords {seed}"))
    return list(laid_out(rows, [{"text": text, "condition": "nonwords"} for text in lists]))


def arithmetic(folder: Path, seed: int) -> list[dict[str, str]]:
    """Return the sentences, and for each a problem."""
    rows = written(folder / "arithmetic.csv", generated="arithmetic")
    made = problems([row["text"] for row in rows], random.Random(f"arithmetic {seed}"))
    return list(laid_out([{"condition": "arithmetic", **row} for row in made], rows))


TABLES = {
    "tasks": (tasks, ["text", "condition"]),
    "localizer": (localizer, ["text", "condition", "block", "run", "item"]),
    "arithmetic": (arithmetic, ["text", "condition", "block", "run", "item", "operation", "notation"]),
}


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the tables")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, (make, columns) in TABLES.items():
        rows = make(HERE, arguments.seed)
        with (arguments.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
