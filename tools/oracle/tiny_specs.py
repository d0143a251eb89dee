"""The table of tiny checkpoints: architecture, quantisation and layout of every fixture.

Every value of each axis (family, rope kind, bits, group size, float type, MLA layout, tied head,
router format, expert layout) stands in at least one row, the common ones in several families.
A row is (name, config.json without quantization, scheme, options).  Options:
  dtype     bfloat16 (default), float16, float32: type of floats, scales and offsets
  router    quantised width of mlp.gate of qwen3_moe: 8 (mlx-lm's own), 4 (older files), 0 (float)
  old_kv    the MLA layout with kv_b_proj
  unstacked experts one by one, mlp.experts.N.*
  shards    number of safetensors files
  index     False: no model.safetensors.index.json
  config    changes of config.json after the logits were made (None deletes a key)
  extra     name -> shape of tensors that a loader has to skip
  false_for module path that is left float and listed as false
  n_tokens  length of the token list
  latent    gain of q_a_proj and kv_a_proj_with_mqa: small, so that their norms' eps counts
  global_scale  nvfp4: one more scale per expert
  unlisted  config.json has the globals alone, though modules differ
  head_copy transformers' file of a tied model that holds lm_head, too
  mlx_lm    False: mlx-lm cannot load it (the format is not its own in this family)
Schemes beside BITS/GROUP and mlx-lm's recipes: mlx's modes, mixed_modes, and those of hf_layout.py:
hf (floats as transformers stores them), int4/GROUP/experts or int4/GROUP/DTYPE-OF-SCALES, fp8 or
fp8/DTYPE, fp8_block (the same under compressed-tensors' names), mxfp4_packed.
"""

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 107,
    "max_position_embeddings": 512, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}
QWEN2 = {**LLAMA, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
         "rms_norm_eps": 1e-6, "rope_theta": 50000.0}
QWEN3 = {**LLAMA, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 32,
         "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "attention_bias": False}
QWEN3_MOE = {**QWEN3, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"],
             "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
             "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True}
DEEPSEEK = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 64,
    "num_hidden_layers": 2, "intermediate_size": 64, "moe_intermediate_size": 64,
    "num_attention_heads": 2, "num_key_value_heads": 2, "n_shared_experts": 1,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "routed_scaling_factor": 2.5,
    "q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 64,
    "v_head_dim": 32, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
    "norm_topk_prob": True, "n_group": 1, "topk_group": 1, "moe_layer_freq": 1,
    "first_k_dense_replace": 1, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None,
    "vocab_size": 107, "max_position_embeddings": 512, "attention_bias": False,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}
# An eps that is felt by values near 1, to tell rms_norm_eps from a built-in one.
BIG_EPS = {"rms_norm_eps": 0.01}
# Constants small enough that the ramp of YaRN lies inside the few pairs a tiny head has and that
# the scaled angles differ visibly within some thirty positions.
YARN = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 8,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
KIMI_K2 = {**DEEPSEEK, "model_type": "kimi_k2", "rope_theta": 500.0, "rope_scaling": YARN,
           "routed_scaling_factor": 2.827}


def wide(config):
    """The same model with every input width a multiple of 128."""
    return {**config, "hidden_size": 128, "num_hidden_layers": 1}


def kimi_k25(**changes):
    text = {**KIMI_K2, "model_type": "kimi_k2", "rms_norm_eps": 1e-5, **changes}
    return {"model_type": "kimi_k25", "architectures": ["KimiK25ForConditionalGeneration"],
            "text_config": text, "tie_word_embeddings": False}


def rope(kind, **values):
    return {"rope_type": kind, **values}


# The later rows are about how weights are stored: little vocabulary, and one layer where it does.
SMALL = {"vocab_size": 61}
HALF = {"num_hidden_layers": 1, "intermediate_size": 64}
ONE_LAYER = {"num_hidden_layers": 1, "first_k_dense_replace": 0}
LEAN = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 32}
LLAMA_S, QWEN2_S, QWEN3_S = {**LLAMA, **SMALL}, {**QWEN2, **SMALL}, {**QWEN3, **SMALL}
MOE_S, DEEPSEEK_S = {**QWEN3_MOE, **SMALL, "num_experts": 4}, {**DEEPSEEK, **SMALL}
KIMI_S = {**KIMI_K2, **SMALL}

LLAMA3_ROPE = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
LONG_ROPE = rope("longrope", original_max_position_embeddings=128,
                 short_factor=[1.0] * 8, long_factor=[1.0, 1.1, 1.3, 1.7, 2.2, 3.0, 4.5, 7.0])

ROWS = [
    ("llama-q4_64", {**LLAMA, **BIG_EPS}, "4/64", {}),
    ("llama-q4_32-f16-tied", {k: v for k, v in LLAMA.items() if k != "tie_word_embeddings"}, "4/32",
     {"dtype": "float16"}),
    ("llama-q6_128", wide(LLAMA), "6/128", {"index": False}),
    ("llama-q8_64-biases", {**LLAMA, "attention_bias": True, "mlp_bias": True}, "8/64", {}),
    ("llama-bf16-biases", {**LLAMA, "num_hidden_layers": 1, "attention_bias": True,
     "mlp_bias": True}, None,
     {"index": False}),
    ("llama-f16-tied", {**LLAMA, "num_hidden_layers": 1, "tie_word_embeddings": True}, None,
     {"dtype": "float16"}),
    ("llama-f32", {**LLAMA, "num_hidden_layers": 1, "intermediate_size": 64}, None,
     {"dtype": "float32"}),
    ("llama-mixed_3_6", {**LLAMA, "num_hidden_layers": 3}, "mixed_3_6", {}),
    ("llama-mixed_346", LLAMA, "mixed_346", {}),
    ("llama-llama3_rope-q4_64", {**LLAMA, "rope_scaling": LLAMA3_ROPE}, "4/64", {"index": False}),
    ("llama-linear_rope-q5_64",
     {**LLAMA, "rope_scaling": {"type": "linear", "factor": 4.0}}, "5/64", {}),
    ("llama-yarn-q3_64", {**LLAMA, "rope_theta": 500.0, "rope_scaling":
     rope("yarn", factor=8.0, original_max_position_embeddings=64)}, "3/64", {"index": False}),
    ("llama-longrope-q2_64", {**LLAMA, "rope_scaling": LONG_ROPE}, "2/64", {}),
    ("llama-proportional_rope-q4_32", {**LLAMA, "rope_scaling":
     rope("proportional", factor=2.0, partial_rotary_factor=0.5)}, "4/32", {"index": False}),
    ("llama-traditional_rope-q4_64", {**LLAMA, "rope_traditional": True}, "4/64", {"index": False}),
    ("llama-sliding-q4_32", {**LLAMA, "num_hidden_layers": 3, "sliding_window": 7, "layer_types":
     ["sliding_attention", "full_attention", "sliding_attention"]}, "4/32", {"n_tokens": 40}),
    ("llama-head_dim-q4_128", {**wide(LLAMA), "head_dim": 64, "num_attention_heads": 2,
     "num_key_value_heads": 1}, "4/128", {"index": False}),
    # Rows long enough for the kernels' inner loops and their tails.
    ("llama-wide-mixed_4_6-tied", {**LLAMA, "hidden_size": 576, "head_dim": 32,
     "num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": 77,
     "num_attention_heads": 2, "num_key_value_heads": 1,
     "tie_word_embeddings": True}, "mixed_4_6", {"index": False}),
    ("qwen3-wide-q8_32-tied", {**QWEN3, "hidden_size": 352, "num_hidden_layers": 1,
     "intermediate_size": 64,
     "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 77,
     "tie_word_embeddings": True}, "8/32", {"index": False}),
    ("llama-rope_parameters-q4_64", {**LLAMA, "rope_theta": 3000.0, "rope_scaling": LLAMA3_ROPE},
     "4/64", {"config": {"rope_theta": None, "rope_scaling": None, "torch_dtype": None,
                         "dtype": "bfloat16",
                         "rope_parameters": {**LLAMA3_ROPE, "rope_theta": 3000.0}}}),
    ("mistral-q4_64", {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"],
     "head_dim": 32, "rope_theta": 1000000.0, "sliding_window": None}, "4/64", {"index": False}),
    # A sliding_window without layer_types is ignored by mlx-lm.
    ("mistral-q3_32-window_key", {**LLAMA, "model_type": "mistral",
     "architectures": ["MistralForCausalLM"], "sliding_window": 8}, "3/32", {}),
    ("mistral-f16", {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"],
     "num_hidden_layers": 1}, None, {"dtype": "float16", "shards": 2, "index": False}),
    ("qwen2-q4_64-tied", {**QWEN2, "tie_word_embeddings": True}, "4/64", {"index": False}),
    ("qwen2-q8_32", {**QWEN2, **BIG_EPS}, "8/32", {}),
    ("qwen2-mixed_3_6", QWEN2, "mixed_3_6", {}),
    ("qwen2-bf16", {**QWEN2, "num_hidden_layers": 1}, None, {"index": False}),
    ("qwen2-rope_parameters-q6_32", QWEN2, "6/32",
     {"config": {"rope_theta": None,
                 "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}}),
    ("qwen3-q4_64", {**QWEN3, **BIG_EPS}, "4/64", {}),
    ("qwen3-q4_64-tied", {**QWEN3, "tie_word_embeddings": True}, "4/64", {"index": False}),
    ("qwen3-yarn-q6_64", {**QWEN3, "rope_theta": 500.0, "rope_scaling":
     rope("yarn", factor=4.0, original_max_position_embeddings=128)}, "6/64", {"index": False}),
    ("qwen3-q2_32", QWEN3, "2/32", {"index": False}),
    ("qwen3-f16", {**QWEN3, "num_hidden_layers": 1}, None, {"dtype": "float16", "index": False}),
    ("qwen3-mixed_346-tied", {**QWEN3, "tie_word_embeddings": True}, "mixed_346", {}),
    ("qwen3-q5_128", wide(QWEN3), "5/128", {"index": False}),
    ("qwen3-q3_128-tied", {**wide(QWEN3), "tie_word_embeddings": True}, "3/128", {"index": False}),
    ("qwen3-rope_parameters-q2_128", {**wide(QWEN3), "rope_theta": 20000.0}, "2/128",
     {"config": {"rope_theta": None,
                 "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}}}),
    ("qwen3-q4_64-float_head", QWEN3, "4/64", {"false_for": "lm_head", "index": False}),
    ("qwen3_moe-q4_64", {**QWEN3_MOE, **BIG_EPS}, "4/64", {}),
    ("qwen3_moe-q4_64-router4", {**QWEN3_MOE, "num_hidden_layers": 1}, "4/64", {"router": 4,
     "index": False}),
    ("qwen3_moe-q4_64-router_float", {**QWEN3_MOE, "num_hidden_layers": 1}, "4/64",
     {"router": 0, "index": False}),
    ("qwen3_moe-mixed_3_6", QWEN3_MOE, "mixed_3_6", {}),
    ("qwen3_moe-mixed_346", QWEN3_MOE, "mixed_346", {"shards": 3}),
    ("qwen3_moe-q2_32", {**QWEN3_MOE, "num_hidden_layers": 1}, "2/32", {"index": False}),
    ("qwen3_moe-bf16-unstacked", {**QWEN3_MOE, "num_hidden_layers": 1, "num_experts": 4}, None,
     {"unstacked": True}),
    ("qwen3_moe-q8_64-unstacked", {**QWEN3_MOE, "num_hidden_layers": 1}, "8/64",
     {"unstacked": True}),
    ("qwen3_moe-dense_layers-q5_32-tied", {**QWEN3_MOE, "num_hidden_layers": 4,
     "num_experts": 4, "intermediate_size": 64, "decoder_sparse_step": 2,
     "mlp_only_layers": [1], "norm_topk_prob": False,
     "tie_word_embeddings": True}, "5/32", {"index": False}),
    ("qwen3_moe-rope_parameters-q4_32", {**QWEN3_MOE, "num_hidden_layers": 1}, "4/32",
     {"index": False, "config": {"rope_theta": None, "num_experts": None, "num_local_experts": 5,
      "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}}),
    ("deepseek_v3-q4_64", {**DEEPSEEK, **BIG_EPS}, "4/64", {}),
    ("deepseek_v3-q4_32-no_q_lora", {**DEEPSEEK, "q_lora_rank": None, "qk_nope_head_dim": 32},
     "4/32", {"index": False}),
    ("deepseek_v3-q4_64-groups", {**DEEPSEEK, "n_group": 8, "topk_group": 4,
     "n_routed_experts": 16, "num_experts_per_tok": 4, "first_k_dense_replace": 0,
     "num_hidden_layers": 1}, "4/64", {"index": False}),
    ("deepseek_v3-q3_32-groups", {**DEEPSEEK, "n_group": 4, "topk_group": 2,
     "n_routed_experts": 16, "num_experts_per_tok": 4, "first_k_dense_replace": 0,
     "num_hidden_layers": 1}, "3/32", {"dtype": "float16"}),
    ("deepseek_v3-yarn-q6_64", {**DEEPSEEK, "rope_theta": 500.0, "rope_scaling":
     {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}}, "6/64", {"index": False}),
    ("deepseek_v3-q4_64-kv_b", DEEPSEEK, "4/64", {"old_kv": True}),
    ("deepseek_v3-mixed_3_6-kv_b", DEEPSEEK, "mixed_3_6", {"old_kv": True}),
    ("deepseek_v3-bf16", {**DEEPSEEK, "n_routed_experts": 3, "num_experts_per_tok": 2,
     "num_hidden_layers": 1, "first_k_dense_replace": 0}, None, {"index": False}),
    ("deepseek_v3-bf16-kv_b", {**DEEPSEEK, "num_hidden_layers": 1}, None,
     {"old_kv": True, "index": False}),
    ("deepseek_v3-f16-no_shared",
     {**DEEPSEEK, "num_hidden_layers": 1, "n_shared_experts": None,
     "first_k_dense_replace": 0, "n_routed_experts": 3, "num_experts_per_tok": 1}, None,
     {"dtype": "float16", "index": False}),
    ("deepseek_v3-q2_32", {**DEEPSEEK, "n_shared_experts": 2}, "2/32", {"index": False}),
    ("deepseek_v3-q8_64-biases", {**DEEPSEEK, "attention_bias": True}, "8/64", {"index": False}),
    ("deepseek_v3-mixed_346", DEEPSEEK, "mixed_346", {}),
    ("deepseek_v3-q5_64-dense", {**DEEPSEEK, "n_routed_experts": None, "n_shared_experts": None},
     "5/64", {"index": False}),
    ("deepseek_v3-q4_64-float_embed_q", {**DEEPSEEK, "qk_nope_head_dim": 48}, "4/64",
     {"index": False}),
    ("deepseek_v3-q4_64-next_token_layer", {**DEEPSEEK, "num_nextn_predict_layers": 1}, "4/64",
     {"extra": {"model.layers.2.enorm.weight": (64,), "model.layers.2.eh_proj.weight": (64, 2),
                "model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}}),
    ("deepseek_v3-q6_128-kv_b", {**wide(DEEPSEEK), "q_lora_rank": 128, "kv_lora_rank": 128,
     "v_head_dim": 64, "num_hidden_layers": 1}, "6/128", {"old_kv": True, "index": False}),
    ("kimi_k2-mixed_3_6", KIMI_K2, "mixed_3_6", {"shards": 2}),
    ("kimi_k2-mixed_346-kv_b", KIMI_K2, "mixed_346", {"old_kv": True}),
    ("kimi_k2-q4_64-unstacked", KIMI_K2, "4/64", {"unstacked": True, "index": False}),
    ("kimi_k2-q4_32-kv_b-unstacked", KIMI_K2, "4/32",
     {"old_kv": True, "unstacked": True, "index": False}),
    ("kimi_k25-q4_64", kimi_k25(), "4/64", {"latent": 1e-3}),
    ("kimi_k25-mixed_346", kimi_k25(), "mixed_346", {"index": False}),
    ("kimi_k25-q4_64-vision", kimi_k25(num_hidden_layers=1), "4/64",
     {"extra": {"vision_tower.patch_embed.weight": (4, 4),
                "mm_projector.linear_1.bias": (4,)}}),
    # Formats beside affine.
    ("llama-mxfp4", {**LLAMA_S, "num_hidden_layers": 1}, "mxfp4", {}),
    ("llama-nvfp4-tied", {**LLAMA_S, "num_hidden_layers": 1, "tie_word_embeddings": True}, "nvfp4",
     {"index": False}),
    ("qwen3-mxfp8-tied", {**QWEN3_S, "num_hidden_layers": 1, "tie_word_embeddings": True}, "mxfp8",
     {"index": False}),
    ("qwen3-mixed_modes-unlisted", {**QWEN3_S, "num_hidden_layers": 1}, "mixed_modes",
     {"unlisted": True, "index": False}),
    ("qwen3_moe-mxfp4", {**MOE_S, "num_hidden_layers": 1}, "mxfp4", {"index": False}),
    ("deepseek_v3-mxfp4", DEEPSEEK, "mxfp4", {"index": False}),
    ("deepseek_v3-nvfp4-global_scale", DEEPSEEK_S, "nvfp4", {"global_scale": True, "index": False}),
    ("deepseek_v3-mxfp8", {**DEEPSEEK_S, **ONE_LAYER, "n_routed_experts": 3}, "mxfp8",
     {"index": False}),
    ("kimi_k2-mixed_modes", {**KIMI_S, **ONE_LAYER}, "mixed_modes", {"index": False}),
    ("kimi_k2-int4-experts", {**KIMI_S, **ONE_LAYER, **LEAN, "n_routed_experts": 3},
     "int4/32/experts", {}),
    ("kimi_k25-int4-experts", kimi_k25(**SMALL, **ONE_LAYER, **LEAN, n_routed_experts=3,
     n_shared_experts=None), "int4/32/experts",
     {"extra": {"vision_tower.patch_embed.weight": (4, 4), "mm_projector.linear_1.bias": (4,)}}),
    ("deepseek_v3-int4_64", {**DEEPSEEK_S, **ONE_LAYER}, "int4/64/F16", {"mlx_lm": False}),
    ("llama-int4_128", wide(LLAMA_S), "int4/128/F32", {"mlx_lm": False}),
    ("llama-mxfp4_packed", {**LLAMA_S, "num_hidden_layers": 1}, "mxfp4_packed", {"mlx_lm": False}),
    # 144 inputs: a whole block of 128 and a part of one, here and across rows.
    ("deepseek_v3-fp8", {**DEEPSEEK_S, **ONE_LAYER, "hidden_size": 144, "kv_lora_rank": 144,
     "n_routed_experts": 3, "moe_intermediate_size": 32}, "fp8",
     {"extra": {"model.layers.1.enorm.weight": (144,),
                "model.layers.1.eh_proj.weight": (144, 2)}}),
    ("llama-fp8_block", {**LLAMA_S, "num_hidden_layers": 1, "intermediate_size": 192}, "fp8_block",
     {"mlx_lm": False}),
    ("qwen3-fp8-tied", {**QWEN3_S, "hidden_size": 144, "num_hidden_layers": 1,
     "intermediate_size": 48, "tie_word_embeddings": True}, "fp8", {"mlx_lm": False}),
    ("qwen3_moe-fp8", {**MOE_S, "num_hidden_layers": 1, "moe_intermediate_size": 32},
     "fp8/BF16", {"mlx_lm": False}),
    # Floats as transformers stores them.
    ("llama-hf-bf16", {**LLAMA_S, **HALF}, "hf",
     {"extra": {"model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}}),
    ("qwen2-hf-bf16-head_copy", {**QWEN2_S, **HALF, "tie_word_embeddings": True},
     "hf", {"head_copy": True, "config": {"rope_theta": None, "torch_dtype": None,
      "dtype": "bfloat16", "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}}),
    ("qwen3-hf-f16", {**QWEN3_S, **HALF}, "hf", {"dtype": "float16"}),
    ("qwen3_moe-hf-bf16", {**MOE_S, "num_hidden_layers": 1, "num_experts": 3,
     "moe_intermediate_size": 32}, "hf", {}),
    ("deepseek_v3-hf-bf16", {**DEEPSEEK_S, **ONE_LAYER, **LEAN,
     "n_routed_experts": 3, "moe_intermediate_size": 32, "num_nextn_predict_layers": 1}, "hf",
     {"extra": {"model.layers.1.enorm.weight": (64,), "model.layers.1.eh_proj.weight": (64, 2),
                "model.layers.1.mlp.experts.0.up_proj.weight": (2, 2)}}),
    ("kimi_k25-hf-bf16", kimi_k25(**SMALL, **ONE_LAYER, **LEAN, n_routed_experts=3,
     moe_intermediate_size=32), "hf", {"extra": {"vision_tower.encoder.weight": (4, 4)}}),
]
