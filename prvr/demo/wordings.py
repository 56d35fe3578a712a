"""The captions of the demo's world: two languages with the same meanings and no common words except function words.

Captions of train and dev videos are in `COMMON`, captions of test videos in `HELD_OUT`. No sentence of one contains a word of the
other, except for FUNCTION_WORDS. `EVERY` is both together, mixed word by word: the captions of the stills that the tiny CLIP is
trained on. So the teacher knows words that the student's captions never contain, as a real CLIP does.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

FUNCTION_WORDS = frozenset({"a", "an", "the", "in", "of"})


@dataclass(frozen=True)
class Event:
    """A thing of a colour, in a manner, on a ground: keys of the tables below."""

    colour: str
    thing: str
    manner: str
    ground: str


@dataclass(frozen=True)
class Language:
    """The wordings of each part of an event.

    `subjects` and `circumstances` have patterns for the manners that they express; `movements` are (singular, plural).
    """

    colours: Mapping[str, tuple[str, ...]]
    things: Mapping[str, tuple[str, ...]]
    grounds: Mapping[str, tuple[str, ...]]
    subjects: Mapping[str, tuple[str, ...]]
    circumstances: Mapping[str, tuple[str, ...]]
    movements: tuple[tuple[str, str], ...]
    templates: tuple[str, ...]


COMMON = Language(
    colours={
        "red": ("red",),
        "orange": ("orange",),
        "yellow": ("yellow",),
        "green": ("green",),
        "blue": ("blue",),
        "purple": ("purple",),
        "white": ("white",),
        "black": ("black",),
    },
    things={
        "ball": ("ball",),
        "star": ("star",),
        "car": ("car",),
        "house": ("house",),
        "tree": ("tree",),
        "fish": ("fish",),
        "boat": ("boat", "sailboat"),
        "rocket": ("rocket",),
        "umbrella": ("umbrella",),
        "mushroom": ("mushroom",),
        "flower": ("flower",),
        "heart": ("heart",),
    },
    grounds={
        "grass": ("grass", "meadow"),
        "sea": ("sea", "water"),
        "sand": ("sand", "beach"),
        "snow": ("snow",),
        "road": ("road", "street"),
    },
    subjects={
        "huge": ("a huge {colour} {thing}", "a big {colour} {thing}"),
        "tiny": ("a tiny {colour} {thing}", "a small {colour} {thing}"),
        "two": ("two {colour} {things}",),
    },
    circumstances={
        "high": ("high up", "far up"),
        "rain": ("in the rain", "while it rains"),
        "fence": ("behind a fence",),
        "bubbles": ("among bubbles", "with bubbles around"),
        "rainbow": ("under a rainbow", "with a rainbow above"),
    },
    movements=(("moves over", "move over"), ("goes across", "go across"), ("travels over", "travel over")),
    templates=("{subject} {moves} the {ground} {circumstance}", "{circumstance} {subject} {moves} the {ground}"),
)

HELD_OUT = Language(
    colours={
        "red": ("crimson", "scarlet"),
        "orange": ("tangerine",),
        "yellow": ("golden",),
        "green": ("emerald",),
        "blue": ("azure",),
        "purple": ("violet",),
        "white": ("ivory",),
        "black": ("ebony",),
    },
    things={
        "ball": ("sphere", "globe"),
        "star": ("pentagram",),
        "car": ("automobile", "vehicle"),
        "house": ("cottage", "home"),
        "tree": ("pine", "fir"),
        "fish": ("trout",),
        "boat": ("ship", "yacht"),
        "rocket": ("spaceship",),
        "umbrella": ("parasol",),
        "mushroom": ("toadstool",),
        "flower": ("blossom", "daisy"),
        "heart": ("valentine",),
    },
    grounds={
        "grass": ("lawn",),
        "sea": ("ocean", "waves"),
        "sand": ("desert", "dunes"),
        "snow": ("frost", "ice"),
        "road": ("highway", "asphalt"),
    },
    subjects={
        "huge": ("an enormous {colour} {thing}", "a gigantic {colour} {thing}"),
        "tiny": ("a miniature {colour} {thing}", "a little {colour} {thing}"),
        "two": ("a pair of {colour} {things}", "twin {colour} {things}"),
    },
    circumstances={
        "high": ("aloft", "way overhead"),
        "rain": ("during a downpour", "amid showers"),
        "fence": ("hidden by a railing",),
        "bubbles": ("inside froth", "surrounded by foam"),
        "rainbow": ("beneath an arch of colours",),
    },
    movements=(("sails past", "sail past"), ("drifts along", "drift along"), ("glides by", "glide by")),
    templates=(
        "{circumstance} we see {subject} which {moves} the {ground}",
        "there {subject} {moves} the {ground} {circumstance}",
    ),
)


def _merge(one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {key: one[key] + other[key] for key in one}


EVERY = Language(
    colours=_merge(COMMON.colours, HELD_OUT.colours),
    things=_merge(COMMON.things, HELD_OUT.things),
    grounds=_merge(COMMON.grounds, HELD_OUT.grounds),
    subjects=_merge(COMMON.subjects, HELD_OUT.subjects),
    circumstances=_merge(COMMON.circumstances, HELD_OUT.circumstances),
    movements=COMMON.movements + HELD_OUT.movements,
    templates=COMMON.templates + HELD_OUT.templates,
)

MANNERS = (*COMMON.subjects, *COMMON.circumstances)


def every_event() -> list[Event]:
    """All possible events, in a fixed order."""
    return [Event(*parts) for parts in itertools.product(COMMON.colours, COMMON.things, MANNERS, COMMON.grounds)]


def describe(event: Event, language: Language, chance: random.Random) -> str:
    """A sentence about an event."""
    thing = chance.choice(language.things[event.thing])
    pattern = chance.choice(language.subjects.get(event.manner, ("a {colour} {thing}",)))
    colour = chance.choice(language.colours[event.colour])
    singular, plural = chance.choice(language.movements)
    text = chance.choice(language.templates).format(
        subject=pattern.format(colour=colour, thing=thing, things=_plural(thing)),
        moves=plural if event.manner == "two" else singular,
        ground=chance.choice(language.grounds[event.ground]),
        circumstance=chance.choice(language.circumstances.get(event.manner, ("",))),
    )
    return re.sub(r"\ba (?=[aeiou])", "an ", " ".join(text.split()))


def vocabulary(language: Language) -> set[str]:
    """All words that occur in sentences of a language."""
    things = [form for forms in language.things.values() for form in forms]
    parts = [*things, *map(_plural, things), *(verb for pair in language.movements for verb in pair), *language.templates, "an"]
    for table in (language.colours, language.grounds, language.subjects, language.circumstances):
        parts += [form for forms in table.values() for form in forms]
    return set(re.sub(r"\{\w+\}", " ", " ".join(parts)).split())


def _plural(thing: str) -> str:
    irregular = {"fish": "fish", "trout": "trout", "daisy": "daisies"}
    return irregular.get(thing, thing + "s")
