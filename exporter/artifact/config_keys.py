"""What a model's JSON files may hold: the tables that `configs` holds them against.

A list of what is allowed. transformers makes an attribute of every key of a config.json, whatever it is
called, and an argument of every key of a tokenizer's files, so that a list of what is harmful is never
complete: of `attn_implementation`, `_attn_implementation` and `_attn_implementation_internal` each makes it
fetch a kernel from the Hub and run it.
Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/configuration_utils.py
Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/tokenization_utils_base.py
(_from_pretrained)

The keys are those of transformers' own configuration classes of models that read text and have a head for
classification, in this version and in older ones, and those that published folders have besides.
tests/artifact/test_config_keys.py holds the first against the installed version.
"""

from __future__ import annotations

# Models that read text alone, and that transformers has a `...ForSequenceClassification` for. The last two
# lines are of version 5.
# Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/models/auto/modeling_auto.py
_MODEL_TYPES = """
    albert arcee bart bert big_bird bigbird_pegasus biogpt bloom camembert canine code_llama convbert ctrl
    data2vec-text deberta deberta-v2 deepseek_v2 deepseek_v3 diffllama distilbert doge electra ernie ernie_m
    esm exaone4 falcon flaubert fnet funnel gemma gemma2 gemma3_text glm glm4 gpt-sw3 gpt2 gpt_bigcode gpt_neo
    gpt_neox gpt_oss gptj helium hunyuan_v1_dense hunyuan_v1_moe ibert jamba jetmoe led llama longformer luke
    mbart megatron-bert minimax ministral mistral mixtral mobilebert modernbert modernbert-decoder mpnet
    mpt mra mt5 mvp nemotron nezha nystromformer open-llama openai-gpt opt persimmon phi phi3 phimoe plbart
    qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next reformer rembert roberta roberta-prelayernorm roc_bert
    roformer seed_oss smollm3 squeezebert stablelm starcoder2 t5 umt5 xlm xlm-roberta
    xlm-roberta-xl xlnet xmod yoso zamba zamba2
    cohere_compass_text eurobert gte jina_embeddings_v3 ministral3 nomic_bert olmo2 olmo3 qwen3_5_text
    ultrabert
"""
MODEL_TYPES = frozenset(_MODEL_TYPES.split())

# Numbers, flags, words and lists of them.
_OF_MODELS = """
    activation activation_dropout activation_function adapter_layer_norm adapter_rank
    adapter_reduction_factor adapter_reuse_layer_norm add_bias_linear afn alibi alibi_bias_max
    apply_residual_connection_post_layernorm approx_mode asm attention_bias attention_dropout
    attention_head_dim attention_head_size attention_hidden_size attention_out_bias
    attention_probs_dropout_prob attention_softmax_in_fp32 attention_type attention_types
    attention_window attn_impl attn_layer_offset attn_layer_period attn_layers attn_logit_softcapping
    attn_pdrop attn_type attn_uses_sequence_id aux_loss_alpha aux_loss_coef axial_norm_std
    axial_pos_embds axial_pos_embds_dim axial_pos_shape bi_data bias block_per_row block_repeats
    block_size block_sizes bos_index bos_token_id causal chunk_size chunk_size_lm_head clamp_len
    classifier_activation classifier_bias classifier_dropout classifier_dropout_prob classifier_pooling
    classifier_proj_size clip_qkv cls_token_id conv_kernel_size conv_window d_ff d_head d_inner d_kv
    d_model decoder_attention_heads decoder_bias decoder_ffn_dim decoder_layerdrop decoder_layers
    decoder_sparse_step decoder_start_token_id default_language deterministic_flash_attn dff dim
    do_layer_norm_before downsampling_rate dropout dropout_rate emb_dim emb_layer_norm_before emb_pdrop
    embd_pdrop embed_dropout embed_init_std embedding_dropout embedding_fraction embedding_size
    enable_bias enable_pronunciation enable_shape encoder_attention_heads encoder_ffn_dim
    encoder_layerdrop encoder_layers end_n_top entity_emb_size entity_vocab_size eod_token_id eos_index
    eos_token_id expansion_ratio expert_layer_offset expert_layer_period feed_forward_proj
    feed_forward_size ff_activation ffn_dim ffn_hidden_size final_logit_softcapping
    first_k_dense_replace force_dequant forced_eos_token_id full_attn_alpha_factor full_attn_beta_factor
    gelu_activation global_attn_every_n_layers global_rope_theta hash_code_len hash_seed head_dim
    head_ratio hidden_act hidden_activation hidden_dim hidden_dropout hidden_dropout_prob
    hidden_mamba_act hidden_size init_std initial_prior_diagonal_n_blocks initial_prior_first_n_blocks
    initializer_cutoff_factor initializer_factor initializer_range initializer_std inner_group_num
    input_embedding_size input_jitter_noise intermediate_groups intermediate_size intra_bottleneck_size
    inv_coeff_init_option is_decoder is_encoder is_encoder_decoder is_folding_model is_moe k_groups
    keep_window_size key_query_shared_bottleneck kv_channels kv_lora_rank lambda_std_dev lang_id
    languages layer_norm_elementwise_affine layer_norm_eps layer_norm_epsilon layer_types layerdrop
    layers_block_type learned_pos_emb legacy linear_attn_alpha_factor linear_attn_beta_factor
    linear_conv_kernel_dim linear_key_head_dim linear_num_key_heads linear_num_value_heads
    linear_value_head_dim lm_head_bias ln_before_adapter local_attention
    local_attention_probs_dropout_prob local_attn_chunk_length local_num_chunks_after
    local_num_chunks_before local_rope_theta local_transformer_stride logit_scale
    lsh_attention_probs_dropout_prob lsh_attn_chunk_length lsh_backward lsh_num_chunks_after
    lsh_num_chunks_before mamba_conv_bias mamba_d_conv mamba_d_state mamba_dt_rank mamba_expand
    mamba_ngroups mamba_proj_bias mask_index mask_token_id max_decoder_position_embeddings
    max_encoder_position_embeddings max_position_embeddings max_relative_positions max_seq_len
    max_window_layers mem_len mlp_alpha_factor mlp_beta_factor mlp_bias mlp_dropout mlp_only_layers
    moe_intermediate_size multi_query n_embd n_group n_head n_heads n_inner n_langs n_layer n_layers
    n_mamba_heads n_positions n_routed_experts n_shared_experts n_token n_words new_decoder_architecture
    no_bias no_rope_layer_interval no_rope_layers norm_bias norm_eps norm_epsilon norm_topk_prob
    norm_type normalization_type num_attention_heads num_buckets num_decoder_layers num_experts
    num_experts_per_tok num_feedforward_networks num_groups num_hash num_hash_buckets num_hash_functions
    num_hashes num_heads num_hidden_groups num_hidden_layers num_key_value_heads num_kv_heads num_labels
    num_landmarks num_layers num_ln_in_parallel_attn num_local_experts num_logits_to_keep num_mem_blocks
    num_random_blocks original_max_position_embeddings output_embedding_size output_groups
    output_router_logits pad_index pad_token_id parallel_attn partial_rotary_factor pool_q_only
    pooler_dropout pooler_hidden_act pooling_type pos_att_type position_biased_input
    position_embedding_type post_attention_groups pre_norm prefix_lm pretraining_tp prompt_length
    prompt_mid_dim pronunciation_embed_dim pronunciation_vocab_size q_groups q_lora_rank qa_dropout
    qk_layernorm qk_ln qk_nope_head_dim qk_rope_head_dim qkv_bias quant_mode query_pre_attn_scalar
    reference_compile relative_attention relative_attention_max_distance relative_attention_num_buckets
    reorder_and_upcast_attn repad_logits_with_grad rescale_embeddings resid_dropout resid_pdrop
    residual_dropout reuse_len rms_norm_eps rope_interleave rope_local_base_freq rope_theta rotary_dim
    rotary_emb_base rotary_pct rotary_value routed_scaling_factor router_aux_loss_coef
    router_jitter_noise same_length scale_attention_softmax_in_fp32 scale_attn_by_inverse_layer_idx
    scale_attn_weights scale_embedding segment_means_seq_len sep_token_id separate_cls seq_aux
    seq_classif_dropout shape_embed_dim shape_vocab_size shared_expert_intermediate_size
    sinusoidal_embeddings sinusoidal_pos_embds sliding_window sliding_window_pattern slow_but_exact
    softmax_scale sparse_pred_ignore_index sparse_prediction start_n_top summary_activation
    summary_first_dropout summary_last_dropout summary_proj_to_labels summary_type summary_use_proj task
    task_type_vocab_size tie_word_embeddings time_step_floor time_step_limit time_step_max time_step_min
    token_dropout topk_group topk_method tpu_short_seq_length trigram_input truncate_seq type_vocab_size
    unk_index untie_r upsampling_kernel_size use_absolute_position_embeddings use_bias
    use_bidirectional_attention use_bottleneck use_bottleneck_attention use_cache use_conv_bias
    use_entity_aware_attention use_expectation use_fast_hash use_lang_emb use_long_context
    use_mamba_kernels use_mem_eff_path use_mem_rope use_mems_eval use_mems_train use_parallel_residual
    use_past use_prompt use_qkv_bias use_relative_position_bias use_shared_attention_adapter
    use_sliding_window use_task_id use_tpu_fourier_optimizations v_groups v_head_dim vocab_size
    window_size word_embed_proj_dim
"""
# What the models read besides, where their configurations do not name it.
_READ = """
    _sliding_window_pattern act_dropout asm_cutoffs asm_div_value attention_dropout_prob
    attention_layers attention_mode cache_implementation cls_dropout concat_input dense_act_fn
    forced_bos_token_id full_attention_interval hybrid_layer_ids ignore_attention_mask init_device
    is_gated_act layers_num_experts mamba_headdim max_relative_position moe_topk n_embed ndim num_blocks
    num_query_groups onnx_export pooler_hidden_size qk_head_dim shared_input_output_embedding
    talking_head true_hidden_size use_memorry_efficient_attention use_stable_embedding verbose
    vocab_list
"""
# Of every configuration; the second part is of text generation, which older versions kept here.
# Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/configuration_utils.py
_OF_ALL = """
    add_cross_attention architectures chunk_size_feed_forward cross_attention_hidden_size dtype
    gradient_checkpointing is_composition is_decoder is_encoder_decoder keys_to_ignore_at_inference model_type
    num_labels output_attentions output_hidden_states output_past problem_type return_dict tf_legacy_loss
    tie_encoder_decoder tie_word_embeddings tokenizer_class torch_dtype torchscript transformers_version
    unk_token_id use_bfloat16 use_return_dict xla_device _commit_hash _num_labels

    bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty force_bos_token_to_be_generated
    length_penalty max_length max_new_tokens min_length no_repeat_ngram_size num_beam_groups num_beams
    num_return_sequences output_scores remove_invalid_values repetition_penalty return_dict_in_generate
    suppress_tokens temperature top_k top_p typical_p
"""
# What published folders have besides, none of it read by transformers: settings of other programs and of
# trainings, and those of models whose code was once the author's own.
_OF_FOLDERS = """
    _attn_implementation_autoset _flash_attn_2_enabled _remove_final_layer_norm add_bias_logits
    add_final_layer_norm amp attention_dim bos_token_ids classif_dropout classifier_type
    conv_act conv_groups directionality do_lower_case down_scale_factor embedding_dim emb_size eos_token_ids
    export_model_type extra_pos_embeddings fp16 freeze gap_size generator_size
    label_smoothing language layer_norm_type logn_attention_clip1 logn_attention_scale
    loss_type max_seq_length mixed_precision mlm_probability model_max_length n_classes n_ctx n_special
    n_tokens net_structure_type norm_rel_ebd normalize_before normalize_embedding num_classes
    num_memory_blocks pack_qkv padding_idx padding_side pooler_fc_size pooler_num_attention_heads
    pooler_num_fc_layers pooler_size_per_head pooler_type position_buckets position_id_offset
    predict_special_tokens processor_class seed share_att_key static_position_embeddings
    tie_weights_ total_flos train_batch_size training_steps truncation_side type_sequence_label_size
    unpad_inputs unsloth_fixed unsloth_version use_memory_efficient_attention version

    dense_seq_output emb_pooler fused_bias_fc fused_dropout_add_ln lora_alpha lora_dropout_p
    lora_main_params_trainable lora_rank matryoshka_dimensions max_trained_positions mlp_fc1_bias mlp_fc2_bias
    pad_vocab_size_multiple parallel_block parallel_block_tied_norm prenorm qkv_proj_bias rotary_emb_fraction
    rotary_emb_interleaved rotary_emb_scale_base rotary_scaling_factor truncate_dim use_flash_attn
    use_reentrant use_rms_norm use_xentropy
"""
PLAIN = frozenset(f"{_OF_MODELS} {_READ} {_OF_ALL} {_OF_FOLDERS}".split())
# Any text of one line: nothing is opened by it. `_name_or_path` is where the model once was.
TEXTS = frozenset(
    (
        "_name_or_path",
        "author",
        "dataset",
        "description",
        "finetuning_task",
        "license",
        "model_name",
        "name",
        "name_or_path",
        "prefix",
    )
)
# Mappings of labels to numbers and back.
LABELS = frozenset(("id2label", "label2id"))
# Mappings, also of mappings, of words to numbers, flags, words and lists of them.
MAPPINGS = frozenset(
    (
        "adapters",
        "attn_config",
        "id2lang",
        "lang2id",
        "pruned_heads",
        "rope_parameters",
        "rope_scaling",
        "task_specific_params",
        "transformers.js_config",
    )
)
# Where the activation's class may stand, and what else sentence-transformers keeps in a config.json.
ACTIVATIONS = frozenset(("sbert_ce_default_activation_function",))
SENTENCE_TRANSFORMERS = "sentence_transformers"
# What transformers can do with PyTorch alone. Where flash_attention_2 is not installed it fetches
# kernels-community/flash-attn from the Hub.
# Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/modeling_utils.py
CHOICES = {
    "attn_implementation": ("eager", "sdpa"),
    "_attn_implementation": ("eager", "sdpa"),
    "_attn_implementation_internal": ("eager", "sdpa"),
    "attn_impl": ("eager", "sdpa", "torch"),
    "dtype": ("float32", "float16", "bfloat16", "float64"),
    "torch_dtype": ("float32", "float16", "bfloat16", "float64"),
}
# Keys by which a model brings code of its own, files of other folders, or weights that another library
# reads. They may stand there and say nothing.
# Source: https://huggingface.co/docs/transformers/custom_models (auto_map)
FOREIGN = frozenset(
    (
        "auto_map",
        "base_model_name_or_path",
        "chat_template_file",
        "compression_config",
        "custom_generate",
        "custom_pipelines",
        "esmfold_config",
        "gguf_file",
        "init_inputs",
        "merges_file",
        "peft_config",
        "quantization_config",
        "source_spm",
        "spm_file",
        "target_spm",
        "tokenizer_file",
        "transformers_weights",
        "trust_remote_code",
        "use_kernels",
        "vocab_file",
    )
)
# How many layers a model may be made of, and how large one of its tables may be: what no published model
# comes near, and a machine can still make. Keys not named here may be as large as 32 bits hold.
_LAYERS = """
    num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers num_decoder_layers
    num_hidden_groups inner_group_num num_feedforward_networks num_mem_blocks
"""
_EXPERTS = "num_experts num_local_experts n_routed_experts n_shared_experts"
_WIDTHS = """
    hidden_size d_model n_embd dim embedding_size emb_dim intermediate_size ffn_dim d_ff d_inner n_inner
    encoder_ffn_dim decoder_ffn_dim hidden_dim ffn_hidden_size head_dim num_attention_heads n_head n_heads
    num_heads type_vocab_size num_labels
"""
_ROWS = """
    vocab_size n_words n_token entity_vocab_size max_position_embeddings n_positions n_ctx max_seq_len
    max_encoder_position_embeddings max_decoder_position_embeddings position_buckets
    relative_attention_num_buckets max_relative_positions
"""
LAYERS, EXPERTS = frozenset(_LAYERS.split()), frozenset(_EXPERTS.split())
# Experts of all layers: each is made before its weights are counted. Kimi K2 has 61 layers of 384.
# Source: https://huggingface.co/moonshotai/Kimi-K2-Instruct/blob/main/config.json
MOST_EXPERTS = 1 << 15
# Whose experts are rows of a table, and as many as 16,384 in each of 32 layers.
# Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/models/doge/modeling_doge.py
EXPERTS_ARE_ROWS = frozenset(("doge",))
LARGEST = {
    **dict.fromkeys(_LAYERS.split(), 1 << 10),
    **dict.fromkeys(_EXPERTS.split(), 1 << 14),
    **dict.fromkeys(_WIDTHS.split(), 1 << 18),
    **dict.fromkeys(_ROWS.split(), 1 << 24),
}

# Of a tokenizer_config.json: numbers, flags, words and lists of them.
# Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/tokenization_utils_base.py
# Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/tokenization_utils_fast.py
_OF_TOKENIZERS = """
    add_bos_token add_eos_token add_prefix_space additional_language_codes backend bos_token_id byte_fallback
    clean_up_tokenization_spaces cls_token_box cls_token_id cls_token_segment_id codevocab_type
    do_basic_tokenize
    do_fuse do_lower_case do_lowercase do_lowercase_and_remove_accent do_remove_space do_subword_tokenize
    do_word_tokenize entity_mask2_token_id entity_mask_token_id entity_pad_token_id entity_unk_token_id
    eos_token_id errors fix_mistral_regex from_slow fuse_unk handle_chinese_chars id2lang is_fast is_local
    keep_accents lang2id lang_codes language language_codes legacy legacy_behaviour local_files_only lowercase
    mask_token_id max_entity_length max_length max_len max_mention_length max_question_length max_seq_length
    model_input_names model_max_length model_type never_split num_madeup_words offset only_label_first_subword
    pad_id pad_to_multiple_of pad_token_id pad_token_label pad_token_segment_id pad_token_type_id padding
    padding_side phonemizer_lang processor_class remove_accents remove_space replacement
    return_token_type_ids sep_token_box sep_token_id skip_special_tokens spaces_between_special_tokens
    split_by_punct split_special_tokens src_lang stride strip_accents task tgt_lang tokenize_chinese_chars
    tokenizer_class tokenizer_type trim_offsets truncation truncation_side truncation_strategy unk_id
    unk_token_id
    use_bos_token use_default_system_prompt use_fast use_source_tokenizer vocab_size vocab_type
    word_max_length
    wordpieces_prefix
"""
TOKENIZER_PLAIN = frozenset(_OF_TOKENIZERS.split())
# Any text. A chat template is refused or left out where it would be used, and run by nothing here.
TOKENIZER_TEXTS = frozenset(
    (
        "chat_template",
        "name_or_path",
        "special_tokens_map_file",
    )
)
# A token, or a list or mapping of tokens.
TOKENS = frozenset(
    (
        "additional_special_tokens",
        "extra_special_tokens",
        "model_specific_special_tokens",
        "never_split",
        "special_tokens",
    )
)
# How every other key of a token ends: bos_token, eol_token, image_token ...
TOKEN_SUFFIX = "_token"  # noqa: S105 - no secret
ADDED_TOKENS = "added_tokens_decoder"
# Arguments of SentencePiece, of which `model_file` names a file.
# Source: https://github.com/google/sentencepiece/blob/master/python/src/sentencepiece/__init__.py
SENTENCE_PIECE = "sp_model_kwargs"
SENTENCE_PIECE_PLAIN = frozenset(
    ("add_bos", "add_eos", "alpha", "enable_sampling", "nbest_size", "num_threads", "reverse")
)
