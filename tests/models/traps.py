"""Mistakes of other implementations, as edits that make them here; see docs/traps.md.

Each edit is put into a copy of the package by `test_traps_put_back.py`.
"""

from __future__ import annotations

from typing import NamedTuple


class Trap(NamedTuple):
    """A mistake: in `file`, `edits` replace what is right, and `test` has to fail."""

    name: str
    file: str
    """Below ``src/napari_sam``."""
    edits: tuple[tuple[str, str], ...]
    """(what stands there, exactly once; what is put in its place)."""
    test: str
    """``file.py::function`` below ``tests/models``, with all its parameters."""


def _trap(name: str, file: str, old: str, new: str, test: str) -> Trap:
    return Trap(name, file, ((old, new),), test)


_ENCODER = (
    _trap(
        "padding is added before the mean is subtracted",
        "models/input_frame.py",
        "frame = torch.zeros(3, resize.side, resize.side)",
        "frame = -(torch.tensor(IMAGE_MEAN) / torch.tensor(IMAGE_STD))[:, None, None]"
        ".repeat(1, resize.side, resize.side)",
        "test_input_frame.py::test_frame_equals_the_reference",
    ),
    _trap(
        "channels are normalised as blue, green, red",
        "models/input_frame.py",
        "torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)",
        "torch.tensor(IMAGE_MEAN[::-1])) / torch.tensor(IMAGE_STD[::-1])",
        "test_input_frame.py::test_frame_equals_the_reference",
    ),
    _trap(
        "keys of the padding of windows are not the projection's bias",
        "models/sam/sam.py",
        "beyond = self.qkv.bias.to(qkv.dtype)",
        "beyond = torch.zeros_like(self.qkv.bias)",
        "test_sam_traps.py::test_keys_of_the_padding_of_windows_take_part",
    ),
    _trap(
        "every head is 64 wide, which ViT-H's are not",
        "models/sam/sam.py",
        "heads=dim // tables[0][1]",
        "heads=dim // 64",
        "test_sam_traps.py::test_official_sizes_are_read_off_the_tensors",
    ),
    _trap(
        "ViT-L and ViT-H have ViT-B's global blocks",
        "models/sam/sam.py",
        "tuple(n != 2 * grid - 1 for n, _ in tables)",
        "tuple(i % 3 != 2 for i in range(depth))",
        "test_sam_traps.py::test_official_sizes_are_read_off_the_tensors",
    ),
    _trap(
        "scores of all tokens with all are held at once",
        "models/sam/sam.py",
        "attend = self._attend_by_rows if in_bands(x) else self._attend_fused",
        "attend = self._attend",
        "test_sam_traps.py::test_scores_of_all_tokens_with_all_are_never_held_at_once",
    ),
    _trap(
        "relative positions are left out of torch's fused attention",
        "models/sam/sam.py",
        "v[None], bias[None], scale",
        "v[None], None, scale",
        "test_sam_parity.py::test_fused_global_attention_for_gpus_equals_the_reference",
    ),
)
_DECODER = (
    _trap(
        "the transformer's norms have an epsilon of 1e-6",
        "models/sam/two_way.py",
        "self.norm2 = nn.LayerNorm(dim, eps=1e-5)",
        "self.norm2 = nn.LayerNorm(dim, eps=1e-6)",
        "test_sam_traps.py::test_norms_have_the_epsilons_of_the_paper_s_code",
    ),
    _trap(
        "the first two-way layer adds to the queries instead of replacing them",
        "models/sam/two_way.py",
        "queries = self.self_attn(queries, queries)",
        "queries = queries + self.self_attn(queries, queries)",
        "test_sam_traps.py::test_the_first_two_way_layer_replaces_the_queries",
    ),
    _trap(
        "prompts of a batch share one mask prompt",
        "models/sam/decoder.py",
        "self.prompt_encoder.mask_tokens(prompts.masks)",
        "self.prompt_encoder.mask_tokens(prompts.masks[:1])",
        "test_sam_traps.py::test_each_prompt_of_a_batch_is_answered_as_if_alone",
    ),
    _trap(
        "the image is copied for each prompt",
        "models/sam/decoder.py",
        "tokens = image.without_mask\n",
        "tokens = image.without_mask.repeat(len(self.prompt_encoder(prompts)), 1, 1)\n",
        "test_sam_traps.py::test_the_image_is_not_copied_for_each_prompt",
    ),
    _trap(
        "points come without the token for no point (label -1)",
        "models/sam/decoder.py",
        "pad=prompts.boxes_xyxy is None",
        "pad=False",
        "test_sam_traps.py::test_points_without_a_box_get_the_token_for_no_point",
    ),
    _trap(
        "points beside a box come with the token for no point",
        "models/sam/decoder.py",
        "pad=prompts.boxes_xyxy is None",
        "pad=True",
        "test_sam_traps.py::test_prompt_tokens_equal_the_reference_bit_for_bit",
    ),
    _trap(
        "a caller's label -1 is taken for background",
        "models/torch_model.py",
        "np.isin(labels, (0, 1)).all()",
        "np.isin(labels, (-1, 0, 1)).all()",
        "test_torch_model.py::test_a_point_is_of_the_object_or_of_the_background",
    ),
    _trap(
        "points lie at a pixel's corner, not at its centre",
        "models/sam/decoder.py",
        "self.pe_layer((xy + 0.5) / self.side)",
        "self.pe_layer(xy / self.side)",
        "test_sam_traps.py::test_prompt_tokens_equal_the_reference_bit_for_bit",
    ),
    _trap(
        "the queries' bias is dropped with the keys' when projections are folded",
        "models/sam/two_way.py",
        "image) + bias.flatten(1)[..., None]",
        "image)",
        "test_sam_parity.py::test_masks_equal_the_reference",
    ),
    _trap(
        "three masks are tokens 0 to 2, not 1 to 3",
        "models/sam/decoder.py",
        "range(1, self.config.n_masks)",
        "range(self.config.n_masks - 1)",
        "test_sam_parity.py::test_masks_equal_the_reference",
    ),
    _trap(
        "what is derived from weights is kept when others are loaded",
        "models/sam/decoder.py",
        "position = self.prompt_encoder.pe_layer.grid(self.config.grid)",
        "position = self.__dict__.setdefault(\n"
        '            "kept", self.prompt_encoder.pe_layer.grid(self.config.grid)\n'
        "        )",
        "test_sam_traps.py::test_weights_loaded_after_eval_and_use_take_effect",
    ),
    _trap(
        "tensors that are left over are passed over",
        "models/checkpoints.py",
        '"unexpected": [k for k in given if k not in own],',
        '"unexpected": [],',
        "test_checkpoints.py::test_strict_loading_lists_what_does_not_fit",
    ),
    _trap(
        "a tensor goes by another than its official name",
        "models/sam/decoder.py",
        "self.iou_token = nn.Embedding(1, dim)",
        "self.iou_token = self.iou = nn.Embedding(1, dim)",
        "test_sam_traps.py::test_official_sizes_are_read_off_the_tensors",
    ),
    _trap(
        "a CPU decodes many prompts at a time, more than its caches hold",
        "models/torch_model.py",
        '_BATCH = {"cpu": (1, 1)}',
        '_BATCH = {"cpu": (1, 64)}',
        "test_torch_model.py::test_a_cpu_decodes_no_more_prompts_than_its_caches_hold",
    ),
)
_MOBILE_SAM = (
    Trap(
        "attention biases are copied at eval(), before a checkpoint is loaded",
        "models/sam/mobile_sam.py",
        (
            (
                "    def _bias(self)",
                "    def train(self, mode: bool = True):\n"
                "        super().train(mode)\n"
                "        self.ab = None if mode else self._bias()\n"
                "        return self\n\n"
                "    def _bias(self)",
            ),
            ("q, k, v, self._bias()[None]", "q, k, v, self.ab[None]"),
        ),
        "test_mobile_sam.py::test_attention_biases_changed_after_eval_take_effect",
    ),
    _trap(
        "the classifier in MobileSAM's file is taken for a part of the encoder",
        "models/sam/mobile_sam.py",
        '_UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")',
        "_UNUSED = ()",
        "test_mobile_sam.py::test_one_click_gives_three_masks_of_the_window",
    ),
    _trap(
        "the last but one stage halves the resolution, as TinyViT's does elsewhere",
        "models/sam/mobile_sam.py",
        "stride = 1 if i + 2 == len(config.dims) else 2",
        "stride = 2",
        "test_mobile_sam.py::test_encoder_output_equals_the_reference",
    ),
    _trap(
        "the mean is lost where batch norms are folded into convolutions",
        "models/sam/mobile_sam.py",
        "bn.bias - bn.running_mean * scale",
        "bn.bias",
        "test_mobile_sam.py::test_batch_norm_changed_after_eval_takes_effect",
    ),
    _trap(
        "keys of the padding of TinyViT's windows are not those of a zero token",
        "models/sam/mobile_sam.py",
        "self.qkv(self.norm.bias)",
        "self.qkv.bias",
        "test_mobile_sam.py::test_encoder_output_equals_the_reference",
    ),
    _trap(
        "TinySAM gives mask 0 for a clear prompt",
        "models/sam/mobile_sam.py",
        "decode(image, prompts, multimask_output=True)",
        "decode(image, prompts, multimask_output=multimask_output)",
        "test_mobile_sam.py::test_tinysam_reads_masks_1_to_3_whatever_the_prompt",
    ),
)
_HQ_SAM = (
    _trap(
        "HQ-SAM's early tokens are those behind the last global block",
        "models/sam/sam.py",
        "if early is None and not block.windowed:",
        "if not block.windowed:",
        "test_hq_sam.py::test_early_tokens_are_those_behind_the_first_global_block",
    ),
    _trap(
        "early tokens are overwritten by the blocks that follow",
        "models/sam/sam.py",
        "early = x.clone()",
        "early = x",
        "test_hq_sam.py::test_features_equal_the_reference",
    ),
    _trap(
        "a store keeps the early tokens beside what is made of them",
        "models/sam/hq_sam.py",
        '            "image_embedding": embedding,\n',
        '            "image_embedding": embedding,\n'
        '            "early": early.permute(0, 3, 1, 2),\n',
        "test_hq_sam.py::test_features_equal_the_reference",
    ),
    _trap(
        "HQ features beyond what float16 holds become infinite in a store",
        "models/sam/hq_sam.py",
        "hq.clamp_(-_HALF_LIMIT, _HALF_LIMIT)",
        "hq",
        "test_hq_sam.py::test_features_beyond_float16_are_cut_not_lost",
    ),
    _trap(
        "HQ-SAM's masks are not corrected by the high-quality token",
        "models/sam/hq_sam.py",
        " + correction.flatten()",
        "",
        "test_hq_sam.py::test_masks_equal_the_reference",
    ),
)
_MEDSAM = (
    _trap(
        "MedSAM's pixels are normalised as SAM's",
        "models/sam/medsam.py",
        "return to_frame(image, resize.side)",
        "return super()._frame(image, resize)",
        "test_medsam.py::test_masks_equal_the_reference",
    ),
    _trap(
        "MedSAM's window keeps its shape and is padded",
        "models/sam/medsam.py",
        "stretches=True",
        "stretches=False",
        "test_medsam.py::test_masks_equal_the_reference",
    ),
    _trap(
        "MedSAM's pixels are divided by 255, not scaled from least to greatest",
        "models/sam/medsam.py",
        "(pixels - np.float64(low)) / max(high - low, 1e-8)",
        "pixels / 255",
        "test_medsam.py::test_pixels_equal_the_reference",
    ),
    _trap(
        "a window of one value is divided by nothing",
        "models/sam/medsam.py",
        "max(high - low, 1e-8)",
        "(high - low)",
        "test_medsam.py::test_an_image_of_one_value_is_black_not_nan",
    ),
    _trap(
        "MedSAM, trained on boxes alone, takes points",
        "models/sam/medsam.py",
        "if len(p.points) or p.box is None:",
        "if not len(p.points) and p.box is None:",
        "test_medsam.py::test_prompts_it_was_not_trained_on_are_refused",
    ),
    _trap(
        "logits and not probabilities are enlarged for MedSAM",
        "models/sam/medsam.py",
        "to_candidate(torch.sigmoid(logits) - 0.5,",
        "to_candidate(logits,",
        "test_medsam.py::test_masks_equal_the_reference",
    ),
    _trap(
        "a store takes MedSAM's embeddings for SAM's, whose file it can be",
        "models/sam/medsam.py",
        'encoder_revision="medsam1"',
        "encoder_revision=spec.encoder_revision",
        "test_registry.py"
        "::test_a_file_that_tensors_do_not_tell_is_known_by_prefix_or_name",
    ),
)
_SAM2 = (
    _trap(
        "SAM 2's window keeps its shape and is padded",
        "models/sam2/sam2.py",
        "stretches=True",
        "stretches=False",
        "test_sam2.py::test_masks_equal_the_authors",
    ),
    _trap(
        "SAM 2's window is made smaller without averaging",
        "models/sam2/sam2.py",
        'mode="bilinear", antialias=True',
        'mode="bilinear", antialias=False',
        "test_sam2.py::test_a_window_larger_than_the_frame_is_averaged",
    ),
    _trap(
        "MedSAM2's frame is as large as SAM 2's",
        "models/registry.py",
        'sam2.MEDSAM2_SIDE if family == "medsam2" else sam2.SIDE',
        "sam2.SIDE",
        "test_sam2.py::TestFiles::test_a_file_named_as_medsam2_s_has_its_side",
    ),
    _trap(
        "rotary positions are those of a frame of 1024 whatever the frame",
        "models/sam2/keys.py",
        "memory_attention_rope_feat_sizes=[side // 16, side // 16]",
        "memory_attention_rope_feat_sizes=[64, 64]",
        "test_sam2.py::TestFiles::test_a_file_named_as_medsam2_s_has_its_side",
    ),
    _trap(
        "position encodings go into the store with SAM 2's features",
        "models/sam2/network.py",
        '            "image_embedding": maps[2],',
        '            "position": self.positions(maps[2].shape, "cpu", torch.float32),\n'
        '            "image_embedding": maps[2],',
        "test_sam2.py::test_embedding_holds_three_maps_and_no_position_encodings",
    ),
    _trap(
        "an image without a past is not marked as one",
        "models/sam2/network.py",
        "(coarse + no_memory)[None]",
        "(coarse + 0 * no_memory)[None]",
        "test_sam2.py::test_masks_equal_the_authors",
    ),
    _trap(
        "norms of SAM 2's two-way transformer have an epsilon of 1e-6",
        "models/sam2/network.py",
        "        self.model = model\n",
        "        self.model = model\n"
        "        for m in model.mask_decoder.transformer.modules():\n"
        "            if isinstance(m, nn.LayerNorm):\n"
        "                m.eps = 1e-6\n",
        "test_sam2.py::test_norms_have_the_epsilons_of_the_authors_code",
    ),
    _trap(
        "a lone mask prompt is padded with an empty point",
        "models/sam2/network.py",
        "        return None, None\n",
        "        n = len(prompts.masks)\n"
        "        return torch.zeros(n, 1, 1, 2), -torch.ones(n, 1, 1).long()\n",
        "test_sam2.py::test_masks_equal_the_authors",
    ),
    _trap(
        "a box comes without the empty point that pads it in SAM 2",
        "models/sam2/network.py",
        "        if sparse is None:\n",
        "        if prompts.boxes_xyxy is not None:\n"
        "            sparse = sparse[:, :, :-1]\n"
        "        if sparse is None:\n",
        "test_sam2.py::test_masks_equal_the_authors",
    ),
    _trap(
        "prompts of a batch share one mask prompt in SAM 2",
        "models/sam2/network.py",
        "masks = masks[:, None]",
        "masks = masks[:1, None].repeat(len(masks), 1, 1, 1)",
        "test_sam2.py::test_each_prompt_of_a_batch_has_its_own_mask",
    ),
    _trap(
        "masks are made of logits cut to 32",
        "models/sam2/sam2.py",
        "        found = super()._decode(embedding, prompts, resize)\n",
        "        self._candidate = lambda a, b, c: TorchModel._candidate(\n"
        "            self, a.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT), b, c\n"
        "        )\n"
        "        found = super()._decode(embedding, prompts, resize)\n",
        "test_sam2.py::test_low_resolution_logits_are_cut_but_masks_are_not",
    ),
    _trap(
        "transformers is imported before a SAM 2 is built",
        "models/sam2/network.py",
        "import importlib.util\n",
        "import importlib.util\nimport transformers\n",
        "test_sam2.py::test_transformers_is_imported_only_when_a_model_is_built",
    ),
    _trap(
        "what a key mask leaves in memory is read off the best of three tokens",
        "models/sam2/network.py",
        "model._single_frame_forward, multimask_output=False",
        "model._single_frame_forward",
        "test_sam2_memory.py::test_following_equals_the_authors",
    ),
    _trap(
        "a key mask is remembered whole, not through low resolution",
        "models/sam2/network.py",
        "        model._use_mask_as_output = partial("
        "_as_remembered, model._use_mask_as_output)\n",
        "",
        "test_sam2_memory.py::test_following_equals_the_authors",
    ),
    _trap(
        "stored features are followed without their position encoding",
        "models/sam2/memory.py",
        "[_as_row(encoding[0])]",
        "[0 * _as_row(encoding[0])]",
        "test_sam2_memory.py::test_stored_features_give_exactly_what_pixels_give",
    ),
    _trap(
        "features kept from one plane are given for the next",
        "models/sam2/memory.py",
        "if self._last is None or self._last[0] != plane:",
        "if self._last is None:",
        "test_sam2_memory.py::test_stored_features_give_exactly_what_pixels_give",
    ),
    _trap(
        "the lowest planes are forgotten first, not the farthest",
        "models/sam2/memory.py",
        "[n for n in passed if abs(n - plane) > reach]",
        "sorted(passed)[: max(0, len(passed) - reach - 1)]",
        "test_sam2_memory.py::test_memory_of_a_long_walk_keeps_the_nearest_planes",
    ),
)
_FILES = (
    _trap(
        "what a file holds is run",
        "models/checkpoints.py",
        '"weights_only": True',
        '"weights_only": False',
        "test_checkpoints.py::test_a_crafted_pickle_is_refused_and_never_runs",
    ),
    _trap(
        "a pickled module is unpickled, as SlimSAM's and FastSAM's files ask for",
        "models/checkpoints.py",
        '"weights_only": True',
        '"weights_only": False',
        "test_checkpoints.py::test_a_crafted_pickle_is_refused_and_never_runs",
    ),
    _trap(
        'the wrapper {"model": ...} of SAM 2 and others is left on',
        "models/checkpoints.py",
        '"model_state", "model", "state_dict",',
        '"model_state", "state_dict",',
        "test_checkpoints.py::test_pickled_tensors_are_read_from_every_wrapper",
    ),
    _trap(
        "micro-sam's model_state is not looked into",
        "models/checkpoints.py",
        '"model_state", "model", "state_dict",',
        '"model", "state_dict",',
        "test_registry.py::test_micro_sam_checkpoints_load_in_both_layouts",
    ),
    _trap(
        "micro-sam's names keep their sam. in front",
        "models/checkpoints.py",
        '"model", "net", "network", "sam", "sam_model",',
        '"model", "net", "network", "sam_model",',
        "test_registry.py::test_micro_sam_checkpoints_load_in_both_layouts",
    ),
    _trap(
        "an encoder with SAM's names that is none of SAM's is taken for one",
        "models/sam/sam.py",
        'tables = [shape(f"{name}.blocks.{i}.attn.rel_pos_h") for i in range(depth)]',
        "tables = [(27, 64)] * depth",
        "test_registry.py::test_families_that_are_not_supported_are_refused",
    ),
    _trap(
        "the suffix of Meta's file names, of the MD5, is taken for the SHA-256",
        "models/catalogue.py",
        '"ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"',
        '"01ec64d29a2fca3f0661936605ae66f8"',
        "test_registry.py::test_every_published_hash_is_whole",
    ),
    _trap(
        "HQ-SAM's MD5 is taken for a SHA-256",
        "models/catalogue.py",
        'checksum=f"md5:{md5}" if md5 else ""',
        "sha256=md5",
        "test_registry.py::test_every_published_hash_is_whole",
    ),
    _trap(
        "micro-sam's XXH128 is taken for a SHA-256",
        "models/catalogue.py",
        'checksum=f"xxh128:{xxh128}"',
        "sha256=xxh128",
        "test_registry.py::test_every_published_hash_is_whole",
    ),
    _trap(
        "a file of the wrong hash is kept",
        "models/download.py",
        "    if found != expected:\n        size",
        "    if not found:\n        size",
        "test_download.py::test_a_wrong_hash_is_refused_and_thrown_away",
    ),
    _trap(
        "a file is opened before its hash is checked",
        "models/registry.py",
        "checkpoints.read(path, sha256=_verify(path, known))",
        "checkpoints.read(path)",
        "test_registry.py::test_a_cached_model_loads_by_name_once_verified",
    ),
    _trap(
        "a file whose hash nobody publishes may change",
        "models/download.py",
        'return str(json.loads(_note(path).read_text())["sha256"])',
        "raise LookupError",
        "test_registry.py"
        "::test_the_hash_of_an_unpublished_file_is_recorded_at_first_use",
    ),
    Trap(
        "a truncated answer is taken for the whole",
        "models/download.py",
        (
            ("    if done < total:\n", "    if done < 0:\n"),
            (
                "raise _broken_off(url, done, total, type(error).__name__) from error",
                "del error",
            ),
        ),
        "test_download.py::test_a_cut_off_download_goes_on_where_it_stopped",
    ),
    _trap(
        "a half download has the file's name",
        "models/download.py",
        'part = path.with_name(path.name + ".part")',
        "part = path",
        "test_download.py::test_a_cut_off_download_goes_on_where_it_stopped",
    ),
    _trap(
        "the network is asked although it is forbidden",
        "models/download.py",
        "    if is_offline():\n",
        "    if not path.name:\n",
        "test_download.py::test_offline_mode_never_asks_the_network",
    ),
    _trap(
        "listing models imports torch",
        "models/registry.py",
        "import logging\n",
        "import logging\nimport torch\n",
        "test_registry.py::test_listing_models_imports_no_torch",
    ),
    _trap(
        "a reference is imported, and with it torchvision",
        "models/sam/sam.py",
        "    config = ViTConfig.infer(checkpoint)\n",
        "    import segment_anything\n\n    config = ViTConfig.infer(checkpoint)\n",
        "test_sam_traps.py::test_neither_references_nor_what_they_need_are_required",
    ),
)
_DEVICES = (
    _trap(
        "memory running out is told by CUDA's exception alone",
        "models/devices.py",
        'return "out of memory" in text or "can\'t allocate memory" in text',
        "return False",
        "test_torch_model.py::test_lack_of_memory_is_told_on_every_device",
    ),
    _trap(
        "any error of torch is taken for lack of memory",
        "models/torch_model.py",
        "                if not is_out_of_memory(error):\n",
        "                if not str(error):\n",
        "test_torch_model.py::test_other_errors_are_not_taken_for_lack_of_memory",
    ),
    _trap(
        "memory running out ends the work at a batch of one",
        "models/torch_model.py",
        'elif self._device.type != "cpu":',
        'elif self._device.type == "cuda":',
        "test_torch_model.py::test_no_memory_on_the_device_means_the_cpu_and_says_so",
    ),
    _trap(
        "the way to the CPU is taken in silence",
        "models/torch_model.py",
        '        _log.warning(\n            "%s is out of memory: %s goes',
        '        _log.debug(\n            "%s is out of memory: %s goes',
        "test_torch_model.py::test_no_memory_on_the_device_means_the_cpu_and_says_so",
    ),
    _trap(
        "encoders multiply in bfloat16 unasked, which slows CPUs down",
        "models/registry.py",
        '    precision: str = "float32",\n',
        '    precision: str = "bfloat16",\n',
        "test_precision.py::test_models_multiply_in_float32_unless_asked",
    ),
    _trap(
        "8-bit encoders start whatever they do to masks",
        "models/int8_encoder.py",
        "LEAST_IOU = 0.98",
        "LEAST_IOU = 0.0",
        "test_int8_encoder.py::test_too_coarse_integers_are_refused_with_the_figure",
    ),
)
TRAPS = (
    *_ENCODER, *_DECODER, *_MOBILE_SAM, *_HQ_SAM, *_MEDSAM, *_SAM2, *_FILES, *_DEVICES,
)  # fmt: skip
