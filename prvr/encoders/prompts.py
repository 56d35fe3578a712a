"""Templates that make a sentence of a word: encoders of images and text were trained on sentences.

Each family has its own convention:

family            template                 source
----------------  -----------------------  -----------------------------------------------------------------------------
clip, pe_core     a photo of a {}.         Radford et al., ICML 2021, section 3.1.4; PE is evaluated with CLIP's templates
siglip, siglip2   This is a photo of {}.   documentation of SigLIP in `transformers`, the template of its pipeline
onnx              there is a {}            none: measured (docs/encoders.md); `textual/prompt.json` names another

A template is used for a wording of at most `MOST_WORDS` words in Latin letters; longer ones are sentences, and in scripts without
spaces nobody can count words. The wordings of captions are never changed: training and evaluation do not use templates.
"""

from __future__ import annotations

import unicodedata
from typing import Protocol, runtime_checkable

from prvr.errors import SettingError

MOST_WORDS = 3
PROMPTS = {
    "clip": "a photo of a {}.",
    "pe_core": "a photo of a {}.",
    "siglip": "This is a photo of {}.",
    "siglip2": "This is a photo of {}.",
    "onnx": "there is a {}",
}
ARTICLES = ("a", "an", "the")
MOST_CHARACTERS = 200


@runtime_checkable
class Prompted(Protocol):
    """An encoder of sentences with a template for short wordings; an empty one for none."""

    prompt: str


def check_template(template: str) -> str:
    """Returns a template after checking that it has one place for the wording, or is empty.

    Raises:
        SettingError: it has none or several, or is too long.
    """
    if template and (template.count("{}") != 1 or len(template) > MOST_CHARACTERS):
        raise SettingError(
            f"the prompt {template!r:.60} needs {{}} once, where the wording goes, and at most {MOST_CHARACTERS} characters, "
            'such as "a photo of a {}"; "" for none'
        )
    return template


def with_prompt(text: str, template: str) -> str:
    """Returns a text in a template. An article before the text is dropped if the template ends with one there."""
    if not template:
        return text
    before, after = check_template(template).split("{}")
    words = text.split()
    if words[1:] and words[0].lower() in ARTICLES and before.split()[-1:] in [[article] for article in ARTICLES]:
        text = " ".join(words[1:])
    return f"{before}{text.strip()}{after}"


def is_short(text: str) -> bool:
    """Whether a wording is so short that it gets the template of its encoder."""
    letters = [one for one in text if one.isalpha()]
    return (
        len(text.split()) <= MOST_WORDS
        and bool(letters)
        and all(unicodedata.name(one, "").startswith("LATIN ") for one in letters)
        and not text.rstrip().endswith((".", "!", "?"))
    )
