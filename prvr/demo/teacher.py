"""The demo's teacher: a tiny CLIP trained from random weights on stills, saved as any Hugging Face CLIP.

Its stills are of the same drawn world, with scenery of their own and without compression, and show no event that a test video
shows (`wordings.reserved_events`). Their captions use all wordings, the new ones of the test captions included: like a real
CLIP, it knows more words than the students' captions contain.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from prvr.demo.background import STRIPS
from prvr.demo.stage import Stage
from prvr.demo.wordings import COLOURS, LIGHTS, PLACES, THINGS, Event, describe, manners, shared_events, vocabulary
from prvr.errors import DataError

if TYPE_CHECKING:
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

# Half of the height of the videos' pictures.
SIDE, PATCH = 72, 12
WIDTH, HEADS, IMAGE_LAYERS, TEXT_LAYERS = 64, 4, 3, 2
LONGEST = 24
PAD, UNKNOWN, FIRST, LAST = "<pad>", "<unk>", "<s>", "</s>"

STEPS, STILLS, LOOK_ALIKES = 900, 64, 4
# Sceneries of each kind that stills are taken from.
SCENERIES = 4
LEARNING_RATE, WARM_UP = 2e-3, 50
HIGHEST_SCALE = math.log(100)
REPORTED_EVERY = 25

# Increase the number when training changes: a teacher that was saved before is then trained again.
MADE_BY = "prvr demo teacher 4"
ORIGIN = "demo.json"

Progress = Callable[[int, int, float, float], None]


def train_teacher(folder: Path, *, seed: int, steps: int = STEPS, on_progress: Progress | None = None) -> None:
    """Trains the tiny CLIP of a seed into `folder`, unless it is there already.

    The folder appears when it is complete, and replaces a teacher of another seed.

    Args:
        on_progress: called every few steps with the step, the number of steps, the loss, and R@1 within the batch, from 0 to 1.

    Raises:
        DataError: the folder holds something else.
    """
    origin = {"made_by": MADE_BY, "seed": seed, "steps": steps}
    if _origin_of(folder) == origin:
        return
    from transformers import CLIPModel

    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = CLIPModel(_config(tokenizer))
    _train(model, tokenizer, steps=steps, chance=random.Random(f"teacher {seed}"), on_progress=on_progress)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.config.save_pretrained(part)
    # Not model.save_pretrained: it draws its own progress bar.
    save_file(model.state_dict(), part / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(part)
    _image_processor().save_pretrained(part)
    (part / ORIGIN).write_text(json.dumps(origin))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _train(
    model: CLIPModel, tokenizer: PreTrainedTokenizerFast, *, steps: int, chance: random.Random, on_progress: Progress | None
) -> None:
    """Minimises the symmetric contrastive loss: each still predicts its caption among those of a batch, and vice versa."""
    events, studio = shared_events(), _Studio(chance)
    allowed = set(events)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _learning_rate_factor(step, steps))
    own, noise = torch.arange(STILLS), torch.Generator().manual_seed(chance.getrandbits(32))
    for step in range(1, steps + 1):
        batch = _batch(events, allowed, chance)
        captions = tokenizer([describe(event, chance, new=True) for event in batch], padding=True, return_tensors="pt")
        stills = [studio.still(event) for event in batch]
        output = model(pixel_values=_pixels(stills, noise), **captions)
        loss = (cross_entropy(output.logits_per_text, own) + cross_entropy(output.logits_per_image, own)) / 2
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=HIGHEST_SCALE)
        if on_progress is not None and (step % REPORTED_EVERY == 0 or step == steps):
            right = (output.logits_per_text.argmax(1) == own).float().mean().item()
            on_progress(step, steps, loss.item(), right)
    model.eval()


def _batch(events: list[Event], allowed: set[Event], chance: random.Random) -> list[Event]:
    """Different events in groups that differ in one part: what is hard to tell apart is learned from such pairs."""
    batch: dict[Event, None] = {}
    while len(batch) < STILLS:
        event = chance.choice(events)
        group = [event, *(_look_alike(event, chance) for _ in range(LOOK_ALIKES - 1))]
        batch |= dict.fromkeys(each for each in group if each in allowed)
    return list(batch)[:STILLS]


def _look_alike(event: Event, chance: random.Random) -> Event:
    """The event with one part drawn again."""
    parts = {"colour": COLOURS, "thing": THINGS, "place": PLACES, "light": LIGHTS, "manner": manners(event.kind)}
    name = chance.choice(list(parts))
    return replace(event, **{name: chance.choice(list(parts[name]))})


def _learning_rate_factor(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


class _Studio:
    """Takes stills of events: the middle square of a picture."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._stage = chance, Stage(SIDE * 4 // 3, SIDE)
        self._sceneries: dict[tuple[str, str, str], list[Image.Image]] = {}

    def still(self, event: Event) -> np.ndarray:
        """A still of an event: (SIDE, SIDE, 3)."""
        chance, stage = self._chance, self._stage
        scenery = self._scenery(event)
        left, top = chance.randint(0, scenery.width - stage.width), chance.randint(0, scenery.height - SIDE)
        picture = scenery.crop((left, top, left + stage.width, top + SIDE))
        stage.put(picture, event, chance.uniform(0.15, 0.85), left=chance.random() < 0.5, tilt=chance.uniform(-8, 8))
        stage.fall(picture, event.light, chance.random())
        edge = (stage.width - SIDE) // 2
        return np.asarray(picture.crop((edge, 0, edge + SIDE, SIDE)))

    def _scenery(self, event: Event) -> Image.Image:
        strip = event.kind if event.kind in STRIPS else ""
        kept = self._sceneries.setdefault((event.place, event.light, strip), [])
        if len(kept) < SCENERIES:
            kept.append(self._stage.scenery(event.place, event.light, event.kind, self._chance))
        return self._chance.choice(kept)


def _pixels(stills: list[np.ndarray], chance: torch.Generator) -> Tensor:
    """The output of the saved image processor for pictures of its own size: channels first, from -1 to 1.

    Each picture has a brightness, a colour cast and grain of its own, as a video has (`prvr.demo.camera`).
    """

    def between(least: float, most: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(least, most, generator=chance)

    pixels = torch.from_numpy(np.stack(stills)).permute(0, 3, 1, 2).float() / 127.5
    count, channels = pixels.shape[:2]
    pixels *= between(0.78, 1.08, count, 1, 1, 1) * between(0.95, 1.05, count, channels, 1, 1)
    pixels += between(0, 0.1, count, 1, 1, 1) * between(0, 1, *pixels.shape)
    return pixels.clamp_(0, 2) - 1


def _image_processor() -> CLIPImageProcessorPil:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    middle = [0.5, 0.5, 0.5]
    crop = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=crop, image_mean=middle, image_std=middle)


def _tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word; punctuation is dropped."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Punctuation, WhitespaceSplit
    from tokenizers.pre_tokenizers import Sequence as SplitBy
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate([PAD, UNKNOWN, FIRST, LAST, *sorted(vocabulary(new=True))])}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = SplitBy([WhitespaceSplit(), Punctuation("removed")])
    ends = [(FIRST, numbers[FIRST]), (LAST, numbers[LAST])]
    tokenizer.post_processor = TemplateProcessing(single=f"{FIRST} $A {LAST}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=FIRST,
        eos_token=LAST,
        model_input_names=["input_ids", "attention_mask"],
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> CLIPConfig:
    from transformers import CLIPConfig

    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": HEADS,
        "projection_dim": WIDTH,
        # In one pass over the numbers; CLIP's own "quick_gelu" takes three.
        "hidden_act": "gelu",
    }
    text = {
        "num_hidden_layers": TEXT_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LONGEST,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    image = {"num_hidden_layers": IMAGE_LAYERS, "image_size": SIDE, "patch_size": PATCH}
    return CLIPConfig(
        text_config=tower | text, vision_config=tower | image, projection_dim=WIDTH, architectures=["CLIPModel"], dtype="float32"
    )


def _origin_of(folder: Path) -> object:
    """The origin that a teacher's folder records; None if the folder does not exist or is empty."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    if not (folder / ORIGIN).is_file():
        raise DataError(f"{folder} exists and holds no teacher of the demo ({ORIGIN} is missing); use another folder")
    return json.loads((folder / ORIGIN).read_text())
