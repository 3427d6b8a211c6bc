"""Makes the annotations for which the reference computes the configs: on each line a JSON object.

In this folder: python generate.py | go run . | gzip -9n > ../annotations.jsonl.gz
"""

import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

# Scalars that are read in unusual ways, variables and places for them, keys, fields of checks, and what is nearly JSON.
SEEDS: dict[str, list[str]] = json.loads((Path(__file__).parent / "seeds.json").read_text())
LONG = ["a" * 100, "word " * 40, "\u00e9" * 90, "x: " + "y " * 50]
TARGETS = [
    {"host": "10.96.0.1", "ports": [{"number": 80, "name": "http"}, {"number": 8080, "name": "admin"}]},
    {"host": "fd00::1", "ports": [{"number": 443, "name": ""}]},
    {"host": "10.96.0.2", "ports": []},
]


def main() -> None:
    """Write all annotations to the standard output: those with variables with each target, the others with any."""
    chance = random.Random(12)
    made = [(text, target) for text in dict.fromkeys(places()) for target in TARGETS]
    others = dict.fromkeys([*scalars(), *mixed(chance), *fields(chance), *syntax()])
    made += zip(others, itertools.cycle(TARGETS))
    sys.stdout.writelines(json.dumps({"checks": text} | target) + "\n" for text, target in made)


def of(value: str, init_config: str | None = None) -> str:
    """Return an annotation with a value in an instance, and in init_config unless that is given."""
    return f'{{"ntp": {{"init_config": {init_config or f"[{value}]"}, "instances": [{{"k": {value}}}]}}}}'


def scalars() -> Iterator[str]:
    """Yield each scalar, as a value, a key and a tag."""
    yield from map(of, SEEDS["numbers"])
    for text in [*SEEDS["strings"], *LONG]:
        for written in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
            yield of(written)
            yield of(f'[{{{written}: 1, "b": [{written}]}}]', "{}")
            yield f'{{"ntp": {{"instances": [{{"tags": ["b", {written}, 5, null, "kube_service:web"]}}]}}}}'


def places() -> Iterator[str]:
    """Yield each variable in each place."""
    for variable in SEEDS["variables"]:
        for place in SEEDS["places"]:
            yield of(json.dumps(place.replace("@", variable)))
    yield of('{"%%%%": 1, "x%%": "%%host%%"}')


def value(chance: random.Random, depth: int) -> str:
    """Return a random value as JSON."""
    kind = chance.randrange(10 if depth else 7)
    if kind < 2:
        return chance.choice([*SEEDS["numbers"][:12], "true", "false", "null"])
    if kind < 5:
        return json.dumps(chance.choice([*SEEDS["strings"], *LONG]), ensure_ascii=chance.random() < 0.5)
    if kind < 7:
        return json.dumps(chance.choice(SEEDS["places"]).replace("@", chance.choice(SEEDS["variables"][:8])))
    if kind < 8:
        return "[" + ", ".join(value(chance, depth - 1) for _ in range(chance.randrange(4))) + "]"
    return mapping(chance, depth - 1)


def mapping(chance: random.Random, depth: int) -> str:
    """Return a random map as JSON; keys may be equal."""
    pairs = (f"{json.dumps(chance.choice(SEEDS['keys']))}: {value(chance, depth)}" for _ in range(chance.randrange(5)))
    return "{" + chance.choice([", ", ",\n  "]).join(pairs) + "}"


def mixed(chance: random.Random) -> Iterator[str]:
    """Yield random annotations of two checks."""
    for _ in range(700):
        instances = ", ".join(mapping(chance, 3) for _ in range(chance.randrange(1, 3)))
        first = f'"ntp": {{"init_config": {mapping(chance, 2)}, "instances": [{instances}]}}'
        yield f'{{{first}, "tcp": {{"name": "tcp_check", "instances": [{mapping(chance, 1)}]}}}}'


def fields(chance: random.Random) -> Iterator[str]:
    """Yield annotations whose fields are of any type, given twice, or unknown."""
    names, values = SEEDS["fields"], SEEDS["values"]
    for field, each in itertools.product(names, values):
        yield f'{{"ntp": {{"instances": [{{"b": 2}}], "{field}": {each}}}}}'
        yield f'{{"ntp": {{"{field}": {each}, "instances": [{{"b": 2}}]}}}}'
    for _ in range(200):
        given = [f'"{chance.choice(names)}": {chance.choice(values)}' for _ in range(chance.randrange(5))]
        again = ", ".join([*given, '"Instances": [{"c": 3}]'])
        yield f'{{"ntp": {{{", ".join(given)}}}, "ntp": {{{again}}}}}'


def syntax() -> Iterator[str]:
    """Yield what is nearly JSON, or JSON of another kind."""
    yield from SEEDS["syntax"]
    yield f'{{"a": {{"instances": [{{"{"k" * 1100}": 1}}]}}}}'
    yield f'{{"a": {{"instances": {"[" * 99}{"]" * 99}}}}}'


if __name__ == "__main__":
    main()
