"""The documented signatures: names, order and defaults of the parameters, so that calls by position work too."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch

NAMES = {"float32": torch.float32}

# module:callable → the documented parameters. What we add comes after them or is keyword-only.
SIGNATURES = {
    "model:GradiendModel": """input_dim, latent_dim, activation_encoder='tanh', activation_decoder='id',
        bias_decoder=True, torch_dtype=float32, device=None, device_encoder=None, device_decoder=None,
        lazy_init=False, **kwargs""",
    "model:GradiendModel.to": "device=None, *, device_encoder=None, device_decoder=None",
    "model:GradiendModel.cuda": "device=None",
    "model:GradiendModel.get_weight_importance": "part='decoder-weight'",
    "model:GradiendModel.get_update_vector": "part='decoder-weight'",
    "model:GradiendModel.get_topk_weights": "part='decoder-weight', topk=1000",
    "model:GradiendModel.forward": "x, return_encoded=False",
    "model:GradiendModel.forward_encoder": "x",
    "model:GradiendModel.forward_decoder": "h",
    "model:GradiendModel.prune": """*, topk=None, threshold=None, mask=None, part='decoder-weight', importance=None,
        inplace=False, return_mask=False""",
    "model:GradiendModel.save_pretrained": "save_directory, use_safetensors=None, **kwargs",
    "model:GradiendModel.from_pretrained": "load_directory, device_encoder=None, device_decoder=None, torch_dtype=None",
    "model:ParamMappedGradiendModel": """input_dim, latent_dim, param_map, activation_encoder='tanh',
        activation_decoder='id', bias_decoder=True, torch_dtype=float32, device=None, device_encoder=None,
        device_decoder=None, lazy_init=False, **kwargs""",
    "model:ParamMappedGradiendModel.extract_gradients": "model, return_dict=False, target_device=None",
    "model:ParamMappedGradiendModel.forward": "x, return_encoded=False",
    "model:ParamMappedGradiendModel.forward_encoder": "x",
    "model:ParamMappedGradiendModel.prune": """*, topk=None, threshold=None, mask=None, part='decoder-weight',
        importance=None, inplace=False, return_mask=False""",
    "model:ParamMappedGradiendModel.from_pretrained": """load_directory, device_encoder=None, device_decoder=None,
        torch_dtype=None""",
    "model:ModelWithGradiend": """base_model, gradiend, *, base_model_device=None, device_encoder=None,
        device_decoder=None, gradient_creator=None, source='factual', target='diff'""",
    "model:ModelWithGradiend.get_topk_weights": "part='decoder-weight', topk=1000",
    "model:ModelWithGradiend.encode": "input, label=None, return_float=False",
    "model:ModelWithGradiend.rewrite_base_model": "learning_rate, feature_factor, part='decoder'",
    "model:ModelWithGradiend.with_original_base_model": "new_base",
    "model:ModelWithGradiend.get_enhancer_mask": "topk, part='decoder-weight'",
    "model:ModelWithGradiend.invert_encoding": "*, update_direction=True",
    "model:ModelWithGradiend.prune_gradiend": """*, topk=None, threshold=None, mask=None, part='decoder-weight',
        importance=None, inplace=True, return_mask=False""",
    "model.core:build_gradiend_from_base_model": """base_model, load_directory, param_map=None, params=None,
        latent_dim=1, torch_dtype=None, device_encoder=None, device_decoder=None, lazy_init=False, **kwargs""",
    "model.utils:get_activation": "name, encoder=False",
    "model.utils:resolve_device_config_for_model": """device=None, device_encoder=None, device_decoder=None,
        device_base_model=None, encoder_decoder_same_device=False""",
    "model.layers:LargeLinear": """in_features, out_features, bias=True, in_chunk_size=2e9, out_chunk_size=2e9,
        dtype=float32, device=None""",
    "trainer.factory:create_model_with_gradiend": """model, model_class, param_map=None, activation_encoder='tanh',
        activation_decoder='id', bias_decoder=True, torch_dtype=float32, latent_dim=1, **kwargs""",
    "trainer:PrePruneConfig": """n_samples=16, topk=None, threshold=None, source='factual', batch_size=8,
        feature_class_key='feature_class_id', target_feature_class_ids=None, dataset=None,
        use_cached_gradients=False""",
    "trainer:PostPruneConfig": """topk=None, threshold=None, mask=None, part='decoder-weight', inplace=True,
        return_mask=False""",
    "trainer:pre_prune": "model_with_gradiend, dataset, config, *, definition=None, inplace=True, return_mask=False",
    "trainer:post_prune": "model_with_gradiend, config",
    "trainer:TrainingCallback.on_train_begin": "config, **kw",
    "trainer:TrainingCallback.on_train_end": "config, **kw",
    "trainer:TrainingCallback.on_epoch_begin": "epoch, config, **kw",
    "trainer:TrainingCallback.on_step_begin": "step, config, **kw",
    "trainer:TrainingCallback.on_step_end": "step, loss, model, config, **kw",
    "trainer:TrainingCallback.on_epoch_end": "epoch, model, config, **kw",
    "trainer:EvaluationCallback": "evaluate_fn, n_evaluation=250, do_eval=True",
    "trainer:EvaluationCallback.on_step_end": "step, loss, model, config, training_stats=None, **kw",
    "trainer:NormalizationCallback": "normalize=True",
    "trainer:CheckpointCallback": """output, checkpoints=False, keep_only_best=True, checkpoint_interval=5000,
        use_loss_for_best=False""",
    "trainer:LoggingCallback": "n_loss_report=100, loss_only=False",
    "trainer:get_default_callbacks": "config",
    "trainer:GradientTrainingDataset": """training_data, gradient_creator, *, source='factual', target='diff',
        cache_dir=None, use_cached_gradients=True, cache_key_fields=None, dtype=float32, device=None,
        return_metadata=False, get_padding_value=None""",
    "trainer.core.stats:write_training_stats": """output_dir, training_stats, best_score_checkpoint, training_args,
        time_stats=None, losses=None, convergence_info=None""",
    "trainer:load_training_stats": "model_path",
    "trainer:train_core": "model_with_gradiend, data, training_args=None, callbacks=None, **kwargs",
    "trainer.core.feature_definition:FeatureLearningDefinition": "target_classes=None, run_id=None, n_features=1",
    "trainer:Trainer": "model, target_classes=None, args=None, run_id=None, n_features=1, evaluator_class=None",
    "trainer:Trainer.create_model_with_gradiend": "load_directory, model_with_gradiend_cls=None, **kwargs",
    "trainer:Trainer.create_eval_data": """model_with_gradiend, split='val', source=None, max_size=None,
        is_decoder_only_model=None, pre_load_gradients=None, include_other_classes=False, **kw""",
    "trainer:Trainer.get_model": "use_cache=None, *, load_directory=None, **kw",
    "trainer:Trainer.load_model": "load_directory, model_with_gradiend_cls=None, **kw",
    "trainer:Trainer.pre_prune": "pre_cfg=None, *, inplace=True",
    "trainer:Trainer.post_prune": "post_cfg=None",
    "trainer:Trainer.train": "output_dir=None, model=None, model_with_gradiend_cls=None, callbacks=None, **overrides",
    "trainer:Trainer.evaluate": "*, kwargs_encoder=None, kwargs_decoder=None, **kw",
    "trainer:Trainer.evaluate_encoder": """model_with_gradiend=None, encoder_df=None, split='test', source=None,
        max_size=None, neutral_data_df=None, use_cache=None, return_df=False, plot=False, plot_kwargs=None,
        is_decoder_only_model=None, pre_load_gradients=None, **kw""",
    "trainer:Trainer.evaluate_decoder": """lrs=None, feature_factors=None, use_cache=None,
        max_size_training_like=None, max_size_neutral=None, eval_batch_size=None, training_like_df=None,
        neutral_df=None, selector=None, summary_extractor=None, summary_metrics=None, target_class=None,
        increase_target_probabilities=True, plot=False, show=None""",
    "trainer:Trainer.get_training_stats": "model_path=None",
    "trainer:Trainer.get_encodings": "model_path=None, **key",
    "trainer:Trainer.get_encoder_metrics": "model_path=None, encoder_df=None, **kw",
    "trainer:Trainer.rewrite_base_model": """decoder_results=None, target_class=None,
        increase_target_probabilities=True, output_dir=None, base_model=None, decoder_stats_metric_name=None, **key""",
    "trainer:set_seed": "seed",
    "trainer.text:TextModelWithGradiend": """base_model, gradiend, tokenizer, gradient_creator=None,
        source='factual', target='diff', **kw""",
    "trainer:TextGradientTrainingDataset": """training_data, tokenizer, gradient_creator, *, source='factual',
        target='diff', cache_dir=None, use_cached_gradients=True, dtype=float32, device=None,
        return_metadata=False""",
    "trainer.text:TextBatchedDatasetBase": """data, tokenizer, batch_size, batch_criterion, max_size=None, seed=42,
        shuffle_batches=None, max_length=256, balance_column=None, shuffle_within=None""",
    "trainer.text.prediction.unified_data:apply_factual_casing": "factual, alternative",
    "trainer.text.prediction.unified_data:resolve_dataframe": "value, split='train', max_rows=None",
    "trainer.text.prediction.unified_data:load_hf_per_class": """dataset_name, classes='all', splits=None,
        masked_col='masked', split_col='split'""",
    "trainer.text.prediction.unified_data:merged_to_unified": """df, masked_col='masked', split_col='split',
        label_class_col='label_class', label_col='label', target_col=None, target_class_col=None, pair=None""",
    "trainer.text.prediction.unified_data:per_class_dict_to_unified": """class_dfs, classes='all',
        masked_col='masked', split_col='split', use_class_names_as_columns=True, pair=None,
        include_identity_rows=False, max_counterfactuals_per_sentence=1, random_state=None""",
    "trainer.text.prediction.unified_data:apply_class_merge_to_merged_df": "df, class_merge_map",
    "trainer.text:create_masked_pair_from_text": """text, tokenizer, is_decoder_only_model, excluded_tokens=None,
        mask_token=None, min_prefix_tokens=5""",
    "trainer.text:TextTrainingDataset": """data, tokenizer, batch_size, is_decoder_only_model=False, max_size=None,
        target_key='label', balance_column='feature_class_id', max_length=256, seed=None""",
    "trainer.text:TextPredictionModelWithGradiend.create_gradients": "text, label, return_dict=False, verbose=False",
    "trainer.text:TextPredictionModelWithGradiend.create_inputs": "masked_text, label",
    "trainer.text:TextPredictionModelWithGradiend.forward": "inputs, return_dict=False",
    "trainer.text:TextPredictionModelWithGradiend.mask_and_encode": """text, ignore_tokens=False,
        return_masked_text=False, single_mask=True, topk=None, topk_part=None""",
    "trainer.text.prediction.decoder_eval_utils:evaluate_probability_shift_score": """model, tokenizer, targets,
        eval_data_df, key_text='masked', dataset_class_col=None""",
    "trainer.text.prediction.decoder_eval_utils:compute_lms": """model, tokenizer, texts, ignore=None,
        max_texts=None, batch_size=32""",
    "trainer.text:train_mlm_head": """base_model, train_df, output_path, *, batch_size=4, epochs=5, lr=1e-4,
        pooling_length=3, max_length=128, trust_remote_code=False, use_cache=None""",
    "trainer.text:TextPredictionTrainer": """model, run_id=None, data=None, correlation_mapping=None, config=None,
        target_classes=None, *, args=None, training_args=None, evaluator_class=None, **config_fields""",
    "trainer.text:TextPredictionTrainer.create_training_data": """model_or_tokenizer, split='train',
        class_pair=None, batch_size=None, max_size=None, include_other_classes=False,
        balance_column='feature_class_id'""",
    "trainer.text:TextPredictionTrainer.evaluate_base_model": """model, tokenizer, use_cache=None, cache_folder='',
        model_id=None, training_like_df=None, neutral_df=None, max_size_training_like=None, max_size_neutral=None,
        eval_batch_size=None""",
    "trainer.text:TextPredictionTrainer.get_decoder_mlm_training_data": "split='train', max_size=None",
    "trainer.text:TextPredictionTrainer.train_decoder_only_mlm_head": """model, output=None, *, split='train',
        batch_size=4, epochs=5, lr=1e-4, pooling_length=3, max_length=128, max_size=None, use_cache=None,
        model_use_cache=None""",
    "data:resolve_base_data": """source, text_column='text', max_size=None, split='train', seed=42, hf_config=None,
        trust_remote_code=False""",
    "data:TextPreprocessConfig": """split_to_sentences=False, min_chars=None, max_chars=None, exclude_chars=None,
        custom_filter=None""",
    "data:preprocess_texts": "texts, config=None, spacy_model=None, download_if_missing=True",
    "data:TextFilterConfig": """targets=None, target=None, spacy_tags=None, use_lemma=False, id=None, mask='[MASK]',
        weight=1.0""",
    "data.text.prediction.filter_engine:filter_sentences": """sentences, filter_config, spacy_model=None,
        download_if_missing=False, desc=None, max_matches=None, total_target_overall=None, total_so_far_initial=0,
        stats=None""",
    "data.core.spacy_util:load_spacy_model": "name, download_if_missing=False",
    "data:TextPredictionDataCreator": """base_data, text_column='text', base_max_size=None, split='train',
        hf_config=None, trust_remote_code=False, preprocess=None, spacy_model=None, feature_targets=None, seed=42,
        download_if_missing=True, output_dir=None, training_basename='training', neutral_basename='neutral',
        output_format='csv', use_cache=False""",
    "data:TextPredictionDataCreator.generate_training_data": """max_size_per_class=None, format='per_class',
        split_name='train', balance='try', output=None, train_ratio=0.8, val_ratio=0.1, test_ratio=0.1,
        min_rows_per_class_for_split=10""",
    "data:TextPredictionDataCreator.generate_neutral_data": """base_data=None, additional_excluded_words=None,
        excluded_spacy_tags=None, max_size=None, format='minimal', output=None""",
    "evaluator:get_correlation": "df, encoded_col='encoded', label_col='label'",
    "evaluator.encoder_metrics:get_encoder_metrics_from_dataframe": """df, *, neg_boundary=-0.5, pos_boundary=0.5,
        neutral_boundary=0.0""",
    "evaluator:get_model_metrics": "csv_path, *, use_cache=None",
    "evaluator.encoder:encode_dataset_to_rows": "model, dataset, row_extractor=None",
    "evaluator:EncoderEvaluator.evaluate_encoder": """trainer, encoder_df=None, eval_data=None, use_cache=None,
        split=None, max_size=None, **kw""",
    "evaluator.decoder:derive_default_feature_factor": "trainer, model_with_gradiend=None, class_name=None",
    "evaluator.decoder:default_decoder_feature_factors": "trainer, model_with_gradiend=None",
    "evaluator.decoder:LMSTimesMetricPolicy": "",
    "evaluator:DecoderEvaluator.evaluate_decoder": """trainer, model_with_gradiend=None, feature_factors=None,
        lrs=None, part='decoder', output_path=None, selector=None, *, use_cache=None, max_size_training_like=None,
        max_size_neutral=None, eval_batch_size=None, training_like_df=None, neutral_df=None, summary_metrics=None,
        target_class=None, increase_target_probabilities=True, plot=False, show=None""",
    "evaluator:read_decoder_stats_file": "path",
    "evaluator:Evaluator.evaluate": "*, kwargs_encoder=None, kwargs_decoder=None, **kw",
    "evaluator:Evaluator.plot_encoder_scatter": "encoder_df=None, **kw",
    "evaluator:Evaluator.plot_training_convergence": "**kw",
    "visualizer:Visualizer.plot_encoder_scatter": "encoder_df=None, **kw",
    "visualizer:Visualizer.plot_training_convergence": "**kw",
    "evaluator:Evaluator": "trainer, encoder_evaluator=None, decoder_evaluator=None, visualizer_class=None",
    "visualizer:plot_training_convergence": """trainer=None, model_path=None, training_stats=None, *,
        plot_mean_by_class=True, plot_mean_by_feature_class=None, plot_correlation=True, best_step=True,
        label_name_mapping=None, output=None, experiment_dir=None, show=True, title=True, figsize=None,
        img_format='png', dpi=None, legend_ncol=None, legend_bbox_to_anchor=None, legend_loc=None""",
    "visualizer:plot_encoder_distributions": """trainer, encoder_df=None, output=None, output_dir=None, show=True,
        title=True, violin_order=None, paired_legend_labels=None, legend_name_mapping=None,
        legend_group_mapping=None, title_fontsize=None, label_fontsize=None, axis_label_fontsize=None,
        legend_fontsize=None, colors=None, legend_loc='best', legend_ncol=None, legend_bbox_to_anchor=None,
        cmap='tab20', img_format='png', dpi=None, figsize=None, target_and_neutral_only=True""",
    "visualizer:plot_encoder_scatter": """trainer=None, encoder_df=None, *, color_by='label', hover_cols=None,
        jitter_scale=0.15, max_points=None, stratify_by=None, cmap='tab20', output_path=None, output_dir=None,
        experiment_dir=None, show=True, title=None, height=500, split='test', hover_text_max_chars=50""",
    "visualizer.probability_shifts:plot_probability_shifts": """trainer=None, decoder_results=None,
        plotting_data=None, class_ids=None, target_class=None, increase_target_probabilities=True, output=None,
        show=True, figsize=None""",
    "comparison:compute_similarity_matrix": """models, *, measure='cosine', part=None, topk=None,
        value='intersection_frac', seed_aggregate='mean', dispersion='none', seed_pairing_mode='matched'""",
    "comparison:compute_grouped_similarity_matrices": """models, *, measure='cosine', part=None, topk=None,
        group_by='layer'""",
    "visualizer:plot_topk_overlap_venn": "models, topk=1000, *, show=True",
    "visualizer:plot_topk_overlap_heatmap": """models, topk=1000, part='decoder-weight', value='intersection',
        order='input', cluster=False, annot='auto', fmt=None, *, figsize=None, cmap='viridis', vmin=None, vmax=None,
        title=False, output_path=None, show=True, return_data=True, pretty_groups=None, scale='linear',
        scale_gamma=None, annot_fontsize=None, tick_label_fontsize=None, group_label_fontsize=None, cbar_pad=None,
        cbar_fontsize=None, percentages=True, row_metric=None""",
    "visualizer:compute_topk_sets": "models, topk=100, part='decoder-weight'",
    "util.paths:resolve_output_path": "experiment_dir, explicit_path, artifact_type, **extra",
    "util.paths:resolve_encoder_analysis_path": "experiment_dir, explicit_path=None, **key",
    "util.paths:resolve_decoder_stats_path": """experiment_dir, *, feature_factors=None, lrs=None, topk=None,
        part=None, topk_part=None, metric_name=None""",
    "util.metrics:f1_score": "y_true, y_pred, *, average='binary', zero_division='warn'",
    "util.logging:setup_logging": "level=20",
    "util.logging:get_logger": "name",
    # Dataclasses: by keyword, in no documented order.
    "trainer:TrainingArguments": """*, experiment_dir=None, output_dir=None, use_cache=False,
        add_identity_for_other_classes=False, source='alternative', target='diff', train_batch_size=32,
        train_max_size=None, learning_rate=1e-5, num_train_epochs=3, max_steps=-1, weight_decay=1e-2,
        adam_epsilon=1e-8, optim='adamw', criterion=None, eval_strategy='steps', eval_steps=250,
        encoder_eval_train_max_size=None, encoder_eval_max_size=None, encoder_eval_balance=True,
        seed_selection_eval_max_size=None, decoder_eval_max_size_training_like=None,
        decoder_eval_max_size_neutral=None, decoder_eval_lrs=None, decoder_eval_feature_factors=None,
        eval_batch_size=32, do_eval=True, evaluate_fn=None, save_strategy='best', save_steps=5000,
        save_only_best=True, delete_models=False, trust_remote_code=False, model_use_cache=False, params=None,
        activation_encoder=None, activation_decoder=None, bias_decoder=None, latent_dim=None,
        normalize_gradiend=True, torch_dtype=None, encoder_decoder_same_device=False, max_seeds=3,
        min_convergent_seeds=1, convergent_metric=None, convergent_score_threshold=None,
        convergent_mean_by_class_threshold=None, seed=0, seed_runs_dir=None, keep_seed_runs=False,
        supervised_encoder=False, supervised_decoder=False, use_cached_gradients=False, pre_prune_config=None,
        post_prune_config=None""",
    "trainer.text:TextPredictionConfig": """*, img_format='png', img_dpi=None, run_id=None, data=None,
        hf_dataset=None, hf_subset=None, hf_splits=None, target_classes=None, all_classes=None,
        masked_col='masked', label_col='label', label_class_col='label_class', split_col='split',
        alternative_col='alternative', alternative_class_col='alternative_class', use_class_names_as_columns=True,
        max_counterfactuals_per_sentence=1, random_state=None, n_features=1, decoder_eval_targets=None,
        decoder_eval_restrict_to_target_classes=True, decoder_eval_prob_on_other_class=True,
        decoder_eval_ignore_tokens=None, decoder_eval_lms_max_samples=None, class_merge_map=None,
        class_merge_transition_groups=None, eval_neutral_data=None, eval_neutral_max_rows=None""",
}


def documented(text: str) -> inspect.Signature:
    namespace: dict = {}
    exec(f"def function({text}): ...", dict(NAMES), namespace)
    return inspect.signature(namespace["function"])


def parameters(path: str) -> list[inspect.Parameter]:
    module, _, name = path.partition(":")
    owner: object = None
    found: object = importlib.import_module(f"gradiend.{module}")
    for part in name.split("."):
        owner, found = found, getattr(found, part)
    given = list(inspect.signature(found).parameters.values())
    is_method = inspect.isclass(owner) and inspect.isfunction(found)
    return given[1:] if is_method else given


def deviations(expected: inspect.Signature, given: list[inspect.Parameter]) -> list[str]:
    """What a caller of `expected` would stumble over."""
    by_name = {parameter.name: parameter for parameter in given}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in given)
    found = []
    for place, parameter in enumerate(expected.parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        ours = by_name.get(parameter.name)
        by_position = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if ours is None:
            if by_position or not takes_any:
                found.append(f"no {parameter.name}")
        elif parameter.default is not parameter.empty and ours.default != parameter.default:
            found.append(f"{parameter.name}={ours.default!r}, not {parameter.default!r}")
        elif by_position and (ours.kind is ours.KEYWORD_ONLY or given.index(ours) != place):
            found.append(f"{parameter.name} is at another place")
    required = [p.name for p in given if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return found + [f"{name} is required" for name in required if name not in expected.parameters]


@pytest.mark.parametrize("path", SIGNATURES)
def test_calls_by_the_documented_signature_fit(path):
    assert deviations(documented(SIGNATURES[path]), parameters(path)) == []
