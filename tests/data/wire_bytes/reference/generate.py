"""Makes the config files for which the reference computes the bytes: on each line a JSON object with the key "file".

In this folder: python generate.py | go run . | gzip -9n > ../files.jsonl.gz
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

# Scalars that YAML libraries read differently, positions for them, keys, blocks, and unusual syntax.
SEEDS: dict[str, list[str]] = json.loads((Path(__file__).parent / "seeds.json").read_text())


def main() -> None:
    """Write all files to the standard output, each once."""
    chance = random.Random(20)
    made = [*scalars(chance), *blocks(), *syntax(), *mixed(chance)]
    sys.stdout.writelines(json.dumps({"file": file}) + "\n" for file in dict.fromkeys(made))


def scalars(chance: random.Random) -> Iterator[str]:
    """Yield each scalar in each position."""
    quoted = [chance.choice([json.dumps, in_single_quotes])(text) for text in SEEDS["quoted"]]
    for scalar in [*SEEDS["scalars"], *SEEDS["tagged"], *quoted]:
        for position in SEEDS["positions"]:
            yield position.replace("@", scalar) + "\n"
    for text in SEEDS["quoted"]:
        yield f"instances:\n- k: {json.dumps(text)}\n"
        yield f"instances:\n- k: {json.dumps(text, ensure_ascii=False)}\n"


def blocks() -> Iterator[str]:
    """Yield each block scalar in some positions."""
    for block in SEEDS["blocks"]:
        yield f"instances:\n- k: {block.replace('@', '    ')}"
        yield f"instances:\n- k:\n  - {block.replace('@', '     ')}  l: 1\n"
        yield f"instances:\n- k: {block.replace('@', '    ')}  l: 1\n"
        yield f"init_config: {block.replace('@', '    ')}\ninstances: [{{}}]\n"


def syntax() -> Iterator[str]:
    """Yield each piece of unusual syntax, alone and within a config."""
    for text in SEEDS["syntax"]:
        yield text
        yield f"instances:\n- x:\n    {indented(text, 4)}"
        yield f"instances:\n- {indented(text, 2)}"
        yield f"init_config:\n  {indented(text, 2)}instances: [{{}}]\n"
    for head in SEEDS["heads"]:
        yield head.replace("@", "instances: [{a: 1}]\n")
        yield head.replace("@", "init_config:\n  a: 1\ninstances:\n- a: |\n    x\n")


def mixed(chance: random.Random) -> Iterator[str]:
    """Yield random configs."""
    for _ in range(1000):
        first, second = entries(chance, 2) + entries(chance, 2), entries(chance, 1)
        yield f"init_config: {some(chance, 2)}\ninstances:\n-\n{first}-\n{second}"
    for _ in range(500):
        pairs = (f"{key}: {number}" for number, key in enumerate(chance.sample(SEEDS["keys"], 9)))
        yield f"instances:\n- {{{', '.join(pairs)}}}\n"


def in_single_quotes(text: str) -> str:
    """Return the text as a YAML scalar in single quotes."""
    return "'" + text.replace("'", "''").replace("\n", "\n\n    ") + "'"


def indented(text: str, by: int) -> str:
    """Return the text with all lines but the first indented."""
    return text.removesuffix("\n").replace("\n", "\n" + " " * by) + "\n"


def entries(chance: random.Random, depth: int) -> str:
    """Return a random mapping of up to four keys, as an instance."""
    keys = chance.sample(SEEDS["keys"], chance.randint(1, 4))
    return "".join(f"  {key}: {block(chance) if chance.random() < 0.1 else some(chance, depth)}\n" for key in keys)


def block(chance: random.Random) -> str:
    """Return a random block scalar."""
    return chance.choice(SEEDS["blocks"]).replace("@", "     ").removesuffix("\n")


def some(chance: random.Random, depth: int) -> str:
    """Return a random value in YAML's flow style, nested at most `depth` times."""
    kind = chance.random()
    if depth == 0 or kind < 0.4:
        text = chance.choice(SEEDS["quoted"])
        return chance.choice([chance.choice(SEEDS["scalars"]), json.dumps(text), json.dumps(text, ensure_ascii=False)])
    if kind < 0.7:
        return f"[{', '.join(some(chance, depth - 1) for _ in range(chance.randint(0, 3)))}]"
    keys = chance.sample(SEEDS["keys"], chance.randint(0, 4))
    return f"{{{', '.join(f'{key}: {some(chance, depth - 1)}' for key in keys)}}}"


main()
