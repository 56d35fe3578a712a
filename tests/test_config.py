"""Settings to and from plain values, and `key=value` changes."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from prvr.config import from_dict, override, to_dict
from prvr.errors import SettingError
from prvr.methods.collaborative_experts import CollaborativeExpertsConfig
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.nn.distillation import Distillation
from prvr.train.loop import Training
from prvr.train.presets import PRESETS, preset


@dataclass(frozen=True)
class EveryKind:
    """A field of every kind."""

    count: int = 1
    rate: float = 0.5
    flag: bool = False
    name: str = "a"
    kind: Literal["small", "large"] = "small"
    names: tuple[str, ...] = ("a", "b")
    kinds: tuple[Literal["small", "large"], ...] = ("small",)
    limit: int | None = 3
    share: float | None = None


CHANGED = [
    DlDkdConfig(),
    DlDkdConfig(hidden=32, heads=2, branches=("exploration",), margin=1e-3),
    Distillation(),
    Distillation(hard_part="random", soft_targets="teacher", distillation_weight=1e-3),
    Training(),
    Training(lr=2.4e-4, epochs=3, seed=0),
    ZeroShotConfig(),
    EveryKind(),
    EveryKind(2, 1e-9, True, "b,=c", "large", (), ("large", "small"), None, 0.25),
]


@pytest.mark.parametrize("settings", CHANGED, ids=lambda s: type(s).__name__)
def test_settings_survive_json(settings: Any) -> None:
    check_survives_json(settings)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_of_presets_survive_json(name: str) -> None:
    recipe = preset(name)
    for settings in (recipe.settings, recipe.training, recipe.distillation):
        check_survives_json(settings)


def check_survives_json(settings: Any) -> None:
    again = from_dict(type(settings), json.loads(json.dumps(to_dict(settings))))
    assert again == settings
    assert {name: type(value) for name, value in vars(again).items()} == {n: type(v) for n, v in vars(settings).items()}


def test_what_is_not_given_keeps_its_default() -> None:
    assert from_dict(Training, {"epochs": 7}) == Training(epochs=7)
    assert from_dict(DlDkdConfig, {}) == DlDkdConfig()


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("count=7", 7),
        ("count=-7", -7),
        ("rate=3e-4", 3e-4),
        ("rate=3E-4", 3e-4),
        ("rate=2", 2.0),
        ("rate=.5", 0.5),
        *((f"flag={word}", True) for word in ("true", "True", "1", "yes")),
        *((f"flag={word}", False) for word in ("false", "FALSE", "0", "no")),
        ("name=linear", "linear"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("name=7", "7"),
        ("kind=large", "large"),
        ("names=x", ("x",)),
        ("names=x,y,z", ("x", "y", "z")),
        ("names=", ()),
        ("kinds=large,small", ("large", "small")),
        ("limit=9", 9),
        ("limit=none", None),
        ("limit=None", None),
        ("share=0.5", 0.5),
    ],
)
def test_a_change_of_every_kind_of_field(assignment: str, expected: Any) -> None:
    name = assignment.partition("=")[0]
    (changed,) = override([EveryKind()], [assignment])
    assert getattr(changed, name) == expected
    assert type(getattr(changed, name)) is type(expected)
    assert changed == dataclasses.replace(EveryKind(), **{name: expected})


def test_changes_go_to_the_settings_that_have_the_key() -> None:
    given = [DlDkdConfig(), Training(), Distillation()]
    assignments = [
        "margin=0.2",
        "lr=1e-3",
        "soft_targets=self",
        "branches=inheritance",
        "hard_part=random",
        "distillation_decay=linear",
    ]
    settings, training, distillation = override(given, [*assignments, "margin=0.3"])
    assert settings == DlDkdConfig(margin=0.3, branches=("inheritance",))
    assert training == Training(lr=1e-3)
    assert distillation == Distillation(soft_targets="self", hard_part="random", distillation_decay="linear")
    assert given == [DlDkdConfig(), Training(), Distillation()]
    assert override(given, []) == given


def test_changes_that_fit_only_together_may_come_in_any_order() -> None:
    for assignments in (["hidden=90", "heads=5"], ["heads=5", "hidden=90"]):
        assert override([DlDkdConfig()], assignments) == [DlDkdConfig(hidden=90, heads=5)]


REFUSED = [
    ("count", "1.5", "count is '1.5'; it takes a whole number"),
    ("count", "many", "count is 'many'; it takes a whole number"),
    ("count", "", "count is ''; it takes a whole number"),
    ("count", "none", "count is 'none'; it takes a whole number"),
    ("rate", "fast", "rate is 'fast'; it takes a number"),
    ("rate", "nan", "rate is nan; it takes a number"),
    ("rate", "inf", "rate is inf; it takes a number"),
    ("flag", "maybe", "flag is 'maybe'; it takes true or false"),
    ("kind", "medium", "kind is 'medium'; it takes small or large"),
    ("kinds", "small,medium", "kinds is 'medium'; it takes small or large"),
    ("limit", "1.5", "limit is '1.5'; it takes a whole number or none"),
]


@pytest.mark.parametrize(("name", "value", "line"), REFUSED)
def test_a_change_of_the_wrong_type_is_one_clear_line(name: str, value: str, line: str) -> None:
    with pytest.raises(SettingError) as problem:
        override([EveryKind()], [f"{name}={value}"])
    assert str(problem.value) == line


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("count", 1.0, "count is 1.0; it takes a whole number"),
        ("count", True, "count is True; it takes a whole number"),
        ("count", "1", "count is '1'; it takes a whole number"),
        ("count", None, "count is None; it takes a whole number"),
        ("rate", "3e-4", "rate is '3e-4'; it takes a number"),
        ("rate", True, "rate is True; it takes a number"),
        ("rate", float("nan"), "rate is nan; it takes a number"),
        ("flag", 1, "flag is 1; it takes true or false"),
        ("name", 3, "name is 3; it takes text"),
        ("kind", ["small"], "kind is ['small']; it takes small or large"),
        ("names", "ab", "names is 'ab'; it takes text, several with commas between"),
        ("names", [1], "names is 1; it takes text"),
        ("share", "half", "share is 'half'; it takes a number or none"),
    ],
)
def test_a_stored_value_of_the_wrong_type_is_one_clear_line(name: str, value: Any, line: str) -> None:
    with pytest.raises(SettingError) as problem:
        from_dict(EveryKind, {name: value})
    assert str(problem.value) == line


@pytest.mark.parametrize(
    "value", [16**5000 - 1, [16**5000], "1" * 5000, ["x" * 5000]], ids=["number", "in a list", "text", "texts"]
)
@pytest.mark.parametrize("name", ["count", "rate", "flag", "kind", "limit"])
def test_an_enormous_value_is_one_short_line(name: str, value: Any) -> None:
    with pytest.raises(SettingError) as problem:
        from_dict(EveryKind, {name: value})
    assert re.fullmatch(rf"{name} is .{{,50}}; it takes .{{,60}}", str(problem.value))


@pytest.mark.parametrize("assignment", [f"count={'1' * 5000}", f"rate={'x' * 5000}", "x" * 5000, f"{'x' * 5000}=1"])
def test_an_enormous_text_is_one_short_line(assignment: str) -> None:
    with pytest.raises(SettingError) as problem:
        override([EveryKind()], [assignment])
    assert len(str(problem.value)) < 200


def test_a_whole_number_is_a_number() -> None:
    rate = from_dict(EveryKind, {"rate": 2}).rate
    assert (rate, type(rate)) == (2.0, float)


def test_an_unknown_key_names_the_nearest() -> None:
    for attempt in (
        lambda: override([DlDkdConfig(), Training()], ["marign=0.2"]),
        lambda: from_dict(DlDkdConfig, {"marign": 0.2}),
    ):
        with pytest.raises(SettingError) as problem:
            attempt()
        assert str(problem.value) == "unknown setting 'marign'; did you mean 'margin'?"


def test_an_unknown_key_far_from_all_lists_them() -> None:
    with pytest.raises(
        SettingError, match=r"unknown setting 'zzz'; known: batch_videos, clip_norm, ema_decay, epochs, lr, .*, weight_decay$"
    ):
        override([Training()], ["zzz=1"])


@pytest.mark.parametrize("assignment", ["margin", "", "margin:0.2"])
def test_what_is_no_assignment(assignment: str) -> None:
    with pytest.raises(SettingError, match="is not a setting; write key=value"):
        override([DlDkdConfig()], [assignment])


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("branches=", "take one or two"),
        ("branches=inheritance,exploration,exploration", "there are 3 branches"),
        ("branches=both", "inheritance or exploration"),
        ("distillation_decay=exponentail", "did you mean 'exponential'?"),
        ("mixing_decay=linaer", "did you mean 'linear'?"),
        ("hidden=385", "hidden 385 is not a multiple of heads 4"),
        ("heads=0", "heads is 0"),
        ("hidden=-4", "hidden is -4"),
        ("max_frames=0", "max_frames is 0"),
        ("negative_pool=0", "negative_pool is 0"),
        ("soft_target_epochs=0", "soft_target_epochs is 0"),
        ("distillation_temperature=0", "distillation_temperature is 0"),
        ("teacher_temperature=-1", "teacher_temperature is -1"),
        ("dropout=1.5", "dropout is 1.5"),
        ("input_dropout=-0.1", "input_dropout is -0.1"),
        ("mixing=2", "mixing is 2"),
        ("hard_fraction=-1", "hard_fraction is -1"),
        ("exploration_weight=1.2", "exploration_weight is 1.2"),
        ("lr=0", "lr is 0"),
        ("epochs=-1", "epochs is -1"),
        ("batch_videos=0", "batch_videos is 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(assignment: str, words: str) -> None:
    with pytest.raises(SettingError) as problem:
        override([DlDkdConfig(), Training(), Distillation()], [assignment])
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_numbers_with_commas_between_are_numbers() -> None:
    (settings,) = override([CollaborativeExpertsConfig()], ["experts=512,768"])
    assert settings.experts == (512, 768)
    with pytest.raises(SettingError, match="experts is 'wide'; it takes a whole number"):
        override([CollaborativeExpertsConfig()], ["experts=512,wide"])
