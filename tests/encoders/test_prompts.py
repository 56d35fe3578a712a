"""Templates for short wordings: which texts get one, and which template each kind of encoder has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_encoders import make_all, make_textual, make_visual

from prvr.encoders import open_encoder
from prvr.encoders.prompts import PROMPTS, Prompted, check_template, is_short, with_prompt
from prvr.errors import ModelError, SettingError


@pytest.mark.parametrize(
    ("text", "template", "whole"),
    [
        ("dog", "a photo of a {}.", "a photo of a dog."),
        ("a dog", "a photo of a {}.", "a photo of a dog."),
        ("the red car", "there is a {}", "there is a red car"),
        ("a dog", "This is a photo of {}.", "This is a photo of a dog."),
        ("a", "a photo of a {}.", "a photo of a a."),
        (" dog ", "{} here", "dog here"),
        ("dog", "", "dog"),
        ("{} {0}", "a {}", "a {} {0}"),
    ],
)
def test_a_text_in_a_template(text: str, template: str, whole: str) -> None:
    assert with_prompt(text, template) == whole


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{0}", "{} " * 100, "x" * 300 + "{}"])
def test_templates_that_are_none(template: str) -> None:
    with pytest.raises(SettingError, match=r"needs \{\} once"):
        check_template(template)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("dog", True),
        ("a red car", True),
        ("Straßenbahn", True),
        ("2 dogs", True),
        ("a dog runs home", False),
        ("a dog runs.", False),
        ("dog?", False),
        ("犬が公園を走っている", False),
        ("собака", False),
        ("123", False),
        ("?", False),
    ],
)
def test_which_wordings_are_short(text: str, short: bool) -> None:
    assert is_short(text) is short


def test_each_family_has_its_own(tmp_path: Path) -> None:
    models = make_all(tmp_path)
    own = {
        name: encoder.prompt
        for name in ("clip", "siglip", "siglip2")
        if isinstance(encoder := open_encoder(models / name), Prompted)
    }
    assert own == {name: PROMPTS[name] for name in ("clip", "siglip", "siglip2")}
    assert not isinstance(open_encoder(models / "roberta"), Prompted)
    for template in PROMPTS.values():
        assert check_template(template) == template


def test_an_onnx_folder_can_name_its_own(tmp_path: Path) -> None:
    make_textual(make_visual(tmp_path, size=[8, 12]))
    encoder = open_encoder(tmp_path)
    assert isinstance(encoder, Prompted)
    assert encoder.prompt == PROMPTS["onnx"]
    path = tmp_path / "textual" / "prompt.json"
    for template in ("a sketch of a {}", ""):
        path.write_text(json.dumps({"prompt": template}))
        again = open_encoder(tmp_path)
        assert isinstance(again, Prompted)
        # Of the wording only: the rows of an index stay what they are.
        assert (again.prompt, again.fingerprint) == (template, encoder.fingerprint)
    for broken in ("{}", "[]", '{"prompt": "none"}', "nonsense"):
        path.write_text(broken)
        with pytest.raises(ModelError, match=r"prompt\.json is broken"):
            open_encoder(tmp_path)
