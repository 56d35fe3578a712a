"""The sentences of the demo's world: what a person would write below a picture of it.

Each part of an event has common wordings and, for most parts, new ones: "a red car drives past the trees at night" is common,
"a scarlet car drives past the woods after dark" has three new parts. Captions of train and dev videos take common wordings.
Captions of test videos take any, and at least one word that no train or dev caption can contain. The captions of the stills that
the tiny CLIP is trained on take any, so the teacher knows words that the students' captions never contain, as a real CLIP does.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Wordings = tuple[tuple[str, ...], tuple[str, ...]]
Table = Mapping[str, Wordings]

# Of all events, the share that only test videos show. No still of the teacher shows one either.
RESERVED = 0.1


@dataclass(frozen=True)
class Event:
    """A thing of a colour, what it does or how it is seen, where, and in which light: keys of the tables below."""

    colour: str
    thing: str
    manner: str
    place: str
    light: str

    @property
    def kind(self) -> str:
        """How the thing moves."""
        return KINDS[self.thing]


def _table(**parts: str) -> Table:
    """Reads "common, common | new, new" for each part."""

    def split(forms: str) -> tuple[str, ...]:
        return tuple(form.strip() for form in forms.split(",")) if forms.strip() else ()

    return {name: (split(forms.partition("|")[0]) or ("",), split(forms.partition("|")[2])) for name, forms in parts.items()}


COLOURS = _table(
    red="red | scarlet, crimson",
    orange="orange",
    yellow="yellow | golden",
    green="green | emerald",
    blue="blue | navy",
    purple="purple | violet",
    white="white | snow white",
    black="black | jet black",
)
THINGS = _table(
    car="car | automobile",
    bus="bus | coach",
    tractor="tractor",
    boat="boat, sailing boat | ship, yacht",
    plane="plane, airplane | aircraft, jet",
    balloon="balloon, hot air balloon",
    kite="kite",
    bird="bird",
    dog="dog | puppy, hound",
    horse="horse | pony, stallion",
    cat="cat | kitten",
    ball="ball | football",
)
PLACES = _table(
    forest="the trees, the forest | the woods",
    mountains="the mountains, the snowy mountains | the peaks, the summits",
    city="the tall buildings, the city | the skyscrapers",
    palms="the palm trees, the beach | the palms, the seaside",
    barn="the farm, the barn | the farmhouse",
    lighthouse="the lighthouse | the beacon",
    windmill="the windmill, the old windmill",
    castle="the castle, the old castle | the fortress",
)
LIGHTS = _table(
    day=", on a sunny day, in the sunshine | in broad daylight",
    night="at night, in the dark | after dark, by moonlight",
    sunset="at sunset, in the evening | at dusk",
    rain="in the rain, while it rains | in a downpour",
    snow="in the snow, while it snows | in a blizzard",
    fog="in the fog, on a foggy day | in the mist",
)
KINDS = {"car": "road", "bus": "road", "tractor": "road", "boat": "water", "plane": "air", "balloon": "air", "kite": "air"} | {
    "bird": "air",
    "dog": "foot",
    "horse": "foot",
    "cat": "foot",
    "ball": "ball",
}
# Singular/plural, with the preposition: what goes before a place.
VERBS: Mapping[str, Table] = {
    "road": _table(
        go="drives past/drive past, goes past/go past | rolls past/roll past", stop="is parked by, stands in front of"
    ),
    "water": _table(go="sails past/sail past, goes past/go past | cruises past/cruise past", stop="lies in front of, waits by"),
    "air": _table(
        go="flies over/fly over, flies past/fly past | drifts over/drift over", rise="rises over, climbs above | soars above"
    ),
    "foot": _table(
        go="runs past/run past, walks past/walk past | trots past/trot past",
        stop="stands in front of, waits by | rests by",
        jump="jumps in front of, jumps up and down by | leaps by",
    ),
    "ball": _table(go="rolls past/roll past, moves past/move past", jump="bounces past, jumps up and down by"),
}
DISTANCES = _table(
    far="in the distance, far away | a long way off", near="close to the camera, right in front of us | in close up"
)
NUMBERS: Wordings = (("two",), ("a pair of", "a couple of"))
TEMPLATES: Wordings = (("{event} {light}", "{light} {event}"), ("{event} {light}",))


def every_event() -> list[Event]:
    """All possible events, in a fixed order that mixes them."""
    events = [
        Event(colour, thing, manner, place, light)
        for colour, thing, place, light in itertools.product(COLOURS, THINGS, PLACES, LIGHTS)
        for manner in manners(KINDS[thing])
    ]
    random.Random("events").shuffle(events)
    return events


def reserved_events() -> list[Event]:
    """The events that only test videos show."""
    events = every_event()
    return events[: round(RESERVED * len(events))]


def shared_events() -> list[Event]:
    """The events of the teacher's stills, and of train and dev videos."""
    events = every_event()
    return events[round(RESERVED * len(events)) :]


def manners(kind: str) -> tuple[str, ...]:
    """What a thing of a kind can do, and how it can be seen."""
    return (*VERBS[kind], "two", "far", "near")


def describe(event: Event, chance: random.Random, *, new: bool) -> str:
    """A sentence about an event, of common wordings or, if `new`, of all."""

    def pick(wordings: Wordings) -> str:
        common, others = wordings
        # Half of the parts that have a new wording take it.
        return chance.choice(others) if new and others and chance.random() < 0.5 else chance.choice(common)

    verbs = VERBS[event.kind]
    several = event.manner == "two"
    singular, _, plural = pick(verbs.get(event.manner, verbs["go"])).partition("/")
    thing, colour = pick(THINGS[event.thing]), pick(COLOURS[event.colour])
    subject = f"{pick(NUMBERS)} {colour} {_plural(thing)}" if several else f"a {colour} {thing}"
    parts = [subject, plural if several else singular, pick(PLACES[event.place])]
    parts += [pick(DISTANCES[event.manner])] if event.manner in DISTANCES else []
    text = pick(TEMPLATES).format(event=" ".join(parts), light=pick(LIGHTS[event.light]))
    return re.sub(r"\ba (?=[aeiou])", "an ", " ".join(text.split()))


def vocabulary(*, new: bool) -> set[str]:
    """All words that occur in sentences of common wordings or, if `new`, in any."""
    tables: list[Table] = [COLOURS, PLACES, LIGHTS, DISTANCES, *VERBS.values(), {"": NUMBERS}, THINGS]
    words = {"a", "an"}
    for common, others in itertools.chain.from_iterable(table.values() for table in tables):
        for form in (*common, *(others if new else ())):
            words |= set(_words(form))
    for common, others in THINGS.values():
        words |= {word for form in (*common, *(others if new else ())) for word in _words(_plural(form))}
    return words


def _words(form: str) -> Iterator[str]:
    return iter(form.replace("/", " ").split())


def _plural(thing: str) -> str:
    irregular = {"bus": "buses", "coach": "coaches", "aircraft": "aircraft", "puppy": "puppies", "pony": "ponies"}
    return irregular.get(thing, thing + "s")
