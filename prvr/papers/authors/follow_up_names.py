"""Maps the parameter names of the published code of MS-SL, GMMFormer and what followed them to ours.

published                              ours
-------------------------------------  ---------------------------------------------
`query_encoder.self.key.bias`          `queries.block.key.bias`; `queries.block.attention.key.bias` where a feed-forward follows
`clip_input_proj.net.1.weight`         `clips.projection.linear.weight`
`frame_encoder_1.attn0.self.query...`  `frames.views.0.attention.query...` (GMMFormer v2, RAL)
`clip_encoder_2.attn3.output.dense`    `clips.blocks.1.blocks.3.output` (GMMFormer)
`clip_encoder.h_attns.1.self...`       `clips.views.5.attention...` (HLFormer, behind four Euclidean blocks)
`frame_encoder.e_attns.1.norm2...`     `frames.views.1.feed_forward.norm...` (HLFormer, Holmes, DreamPRVR)
`diffusion_mlp.layers.0.blcok_in.2`    `denoiser.layers.0.inward` (DreamPRVR)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from prvr.papers.authors.names import WRAPPER, Shape, Sizes

# Each pattern is replaced once, in this order; the next reads the result of the one before.
Rules = dict[str, str | Callable[[re.Match[str]], str]]
_INPUTS: Rules = {
    r"^query_input_proj\.": "queries.projection.",
    r"^query_pos_embed\.": "queries.positions.",
    r"^frame_branch_query_proj\.": "words.projection.",
    r"^(clip|frame)_input_proj\.": r"\1s.projection.",
    r"^(clip|frame)_pos_embed\.": r"\1s.positions.",
    r"\.position_embeddings\.": ".table.",
    r"^modular_vector_mapping\.": "queries.pooling.weight.",
}
# Attention, an output map, LayerNorm.
_PLAIN: Rules = {
    r"^query_encoder\.": "queries.block.",
    r"\.self\.(query|key|value)\.": r".\1.",
    r"\.output\.dense\.": ".output.",
    r"\.output\.LayerNorm\.": ".norm.",
    r"\.LayerNorm\.": ".norm.",
    r"\.net\.1\.": ".linear.",
}
# Attention, LayerNorm, two maps, LayerNorm.
_FED: Rules = {
    r"^query_encoder\.": "queries.block.",
    r"^frame_branch_query_encoder\.": "words.block.",
    r"^(clip_encoder|frame_encoder_1)\.": lambda found: f"{found[1].split('_')[0]}s.",
    r"\.ca\.self\.": ".consolidation.",
    r"\.ca\.(output|norm[12])\.": r".consolidation.\1.",
    r"^(clips|frames)\.layer1\.": r"\1.consolidation.first.",
    r"^(clips|frames)\.layer2\.": r"\1.consolidation.second.",
    r"\.attn(\d+)\.": r".views.\1.",
    r"\.self\.": ".attention.",
    r"\.norm1\.": ".norm.",
    r"\.norm2\.": ".feed_forward.norm.",
    r"\.output\.layer1\.": ".feed_forward.widen.",
    r"\.output\.layer2\.": ".feed_forward.narrow.",
    r"\.LayerNorm\.": ".norm.",
    r"\.net\.1\.": ".linear.",
}
_MS_SL: Rules = {
    r"^(clip|frame)_encoder\.": r"\1s.blocks.0.",
    r"^mapping_linear\.0\.": "attended.",
    r"^mapping_linear\.1\.": "kept.",
}
_GMMFORMER: Rules = {
    r"^modular_vector_mapping_2\.": "pooling.weight.",
    r"^(clip|frame)_encoder(_1)?\.": r"\1s.blocks.0.",
    r"^(clip|frame)_encoder_2\.": r"\1s.blocks.1.",
    r"\.attn(\d+)\.": r".blocks.\1.",
}
_HLFORMER: Rules = {
    r"^curv$": "order.log_curvature",
    r"^textual_alpha$": "order.log_query_scale",
    r"^video_alpha$": "order.log_video_scale",
    r"^modular_vector_mapping_2\.": "order.frames.weight.",
    r"^modular_vector_mapping_3\.": "order.clips.weight.",
    r"\.e_attns\.(\d+)\.": r".views.\1.",
    r"\.h_attns\.(\d+)\.self\.lorentz_multiattention\.scale$": r".h_attns.\1.self.temperature",
    r"\.lorentz_multiattention\.linear_(query|keys|values)\.scale$": r".\1.log_time",
    r"\.lorentz_multiattention\.linear_(query|keys|values)\.weight\.": r".\1.linear.",
    r"\.lorentz_multiattention\.": ".",
    r"\.keys\.": ".key.",
    r"\.values\.": ".value.",
    r"\.scale_alpha$": ".log_scale",
    r"\.input_proj\.": ".inward.",
    r"\.output_proj\.": ".outward.",
}
_RAL: Rules = {
    r"^text_weight_fc\.0\.": "confidence.first.",
    r"^text_weight_fc\.2\.": "confidence.second.",
    r"^(pie_net|uncertain_net)_(video|text)\.": r"of_\2s.\1.",
    r"\.pie_net\.attention\.": ".mean_pooling.",
    r"\.pie_net\.fc\.": ".mean_map.",
    r"\.pie_net\.layer_norm\.": ".norm.",
    r"\.uncertain_net\.attention\.": ".deviation_pooling.",
    r"\.uncertain_net\.fc\.": ".deviation_map.",
    r"\.uncertain_net\.fc2\.": ".deviation_of_mean.",
    r"\.w_1\.": ".first.",
    r"\.w_2\.": ".second.",
    r"^weight_token$": "token",
}
_HOLMES: Rules = {
    r"^weight_token$": "unused_token",
    r"\.e_attns\.(\d+)\.": r".views.\1.",
    r"^text_weight_fc\.0\.": "confidence.first.",
    r"^text_weight_fc\.2\.": "confidence.second.",
}
_DREAMPRVR: Rules = {
    r"^(clip|frame)_encoder\.noise_input_layer\.": r"registers_of_\1s.",
    r"^frame_encoder\.": "frames.",
    r"\.e_attns\.(\d+)\.": r".views.\1.",
    r"^mean_clip_encoder\.": "plain_block.",
    r"^video_qformer\.query_tokens$": "register_queries",
    r"^video_qformer\.cross_attention\.": "asking.",
    r"^video_probabilistic_variational_sampler\.": "sampler.",
    r"^sampler\.gpo\.": "pooling.",
    r"\.pie_net_video\.attention\.": ".mean_pooling.",
    r"\.pie_net_video\.fc\.": ".mean_map.",
    r"\.pie_net_video\.layer_norm\.": ".norm.",
    r"\.uncertain_net_video\.attention\.": ".deviation_pooling.",
    r"\.uncertain_net_video\.fc\.": ".deviation_map.",
    r"\.uncertain_net_video\.fc2\.": ".deviation_of_mean.",
    r"\.w_1\.": ".first.",
    r"\.w_2\.": ".second.",
    r"^diffusion_mlp\.": "denoiser.",
    r"\.time_embedding\.timembedding\.0\.": ".times.",
    r"\.time_embedding\.timembedding\.1\.": ".time.0.",
    r"\.time_embedding\.timembedding\.3\.": ".time.2.",
    r"\.cond_embedding\.": ".condition.",
    r"\.blcok_in\.0\.": ".norm.",
    r"\.blcok_in\.2\.": ".inward.",
    r"\.blcok_out\.0\.": ".second_norm.",
    r"\.blcok_out\.3\.": ".outward.",
    r"\.temb_proj\.1\.": ".time.",
    r"\.cond_proj\.1\.": ".condition.",
    r"(\.layers\.\d+)\.short_cut\.": r"\1.shortcut.",
    r"^denoiser\.short_cut\.": "denoiser.outward.",
}
_MSC: Rules = {r"^vproj_clip\.": "aligned."}
_RULES: dict[str, tuple[Rules, ...]] = {
    "ms_sl": (_MS_SL, _INPUTS, _PLAIN),
    "gmmformer": (_GMMFORMER, _INPUTS, _PLAIN),
    "gmmformer_v2": (_RAL, _INPUTS, _FED),
    "hlformer": (_HLFORMER, _INPUTS, _FED),
    "ral_gmmformer_v2": (_RAL, _INPUTS, _FED),
    "holmes": (_HOLMES, _INPUTS, _FED),
    "holmes_dual": (_HOLMES, _INPUTS, _FED),
    "dreamprvr": (_DREAMPRVR, _INPUTS, _FED),
    "msc": (_MSC, _RAL, _INPUTS, _FED),
}
CONSTANT = re.compile(r"(^|\.)manifold\.k$")
PRESETS = {
    "ms_sl": "ms-sl/tvr",
    "gmmformer": "gmmformer/tvr",
    "gmmformer_v2": "gmmformer-v2/tvr",
    "hlformer": "hlformer/tvr",
    "ral_gmmformer_v2": "gmmformer-v2+ral/tvr",
    "holmes": "holmes/tvr",
    "holmes_dual": "holmes-dual/tvr",
    "dreamprvr": "dreamprvr/tvr",
    "msc": "msc-prvr/tvr",
}
# Beginnings of names that only one of the methods has all of, in the order in which they are looked for.
_TELLTALES: dict[tuple[str, ...], str] = {
    ("video_qformer.",): "dreamprvr",
    ("vproj_clip.",): "msc",
    ("text_weight_fc.", "clip_encoder.e_attns."): "holmes_dual",
    ("text_weight_fc.",): "ral_gmmformer_v2",
    ("clip_encoder.h_attns.",): "hlformer",
    ("weight_token", "clip_encoder.e_attns."): "holmes",
    ("weight_token",): "gmmformer_v2",
    ("frame_encoder_2.",): "gmmformer",
    ("clip_encoder.self.",): "ms_sl",
}


@dataclass(frozen=True)
class FollowUpNames:
    """The parameter names of a file of one of these methods (`PublishedNames`)."""

    method: str
    ours: dict[str, str]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def preset(self) -> str:
        """That of the method on TVR."""
        return PRESETS[self.method]

    def sizes(self, shape: Shape) -> Sizes:
        """Reads the sizes of the model; files of MS-SL and GMMFormer do not hold the number of clips."""
        (max_frames, hidden), (max_words, _), (_, frame_columns), (_, word_columns) = (
            shape(f"{part}.weight")
            for part in (
                "frames.positions.table",
                "queries.positions.table",
                "frames.projection.linear",
                "queries.projection.linear",
            )
        )
        settings = {"hidden": hidden, "max_frames": max_frames, "max_words": max_words}
        if self.method not in ("ms_sl", "gmmformer"):
            settings["clips"] = shape("clips.consolidation.second.weight")[0]
        if self.method == "hlformer":
            inward = next(name for name in self.ours.values() if name.endswith(".inward.linear.weight"))
            settings["lorentz_columns"] = shape(inward)[0]
        if self.method == "dreamprvr":
            settings |= {"registers": shape("register_queries")[0], "steps": shape("denoiser.times.weight")[0]}
        return Sizes(settings, frame_columns, word_columns)


def read_follow_up_names(published: Collection[str]) -> FollowUpNames | None:
    """Maps the names of a file; None if it is of none of these methods."""
    wrapper = WRAPPER if all(name.startswith(WRAPPER) for name in published) else ""
    bare = {name: name.removeprefix(wrapper) for name in published}
    begins = {tell for telltales in _TELLTALES for tell in telltales if any(name.startswith(tell) for name in bare.values())}
    method = next((method for telltales, method in _TELLTALES.items() if begins.issuperset(telltales)), None)
    if method is None:
        return None
    mapped = our_names(method, bare.values())
    ours: dict[str, str] = {}
    for name in published:
        if bare[name] in mapped and mapped[bare[name]] not in ours.values():
            ours[name] = mapped[bare[name]]
    left_out = tuple(name for name in published if CONSTANT.search(bare[name]))
    return FollowUpNames(method, ours, left_out, tuple(name for name in published if name not in {*ours, *left_out}))


def our_names(method: str, published: Collection[str]) -> dict[str, str]:
    """Our name of each published parameter. Constants that the published state holds are left out."""
    euclidean = len({found[1] for name in published if (found := re.match(r"clip_encoder\.e_attns\.(\d+)\.", name))})
    return {name: _our_name(method, name, euclidean) for name in published if not CONSTANT.search(name)}


def _our_name(method: str, name: str, euclidean: int) -> str:
    for rules in _RULES[method]:
        for pattern, ours in rules.items():
            name = re.sub(pattern, ours, name, count=1)
    # Lorentz blocks stand behind the Euclidean ones.
    return re.sub(r"\.h_attns\.(\d+)\.", lambda found: f".views.{int(found[1]) + euclidean}.", name)
