"""The documented import surface: every name is where the documentation says."""

import importlib

import pytest

SURFACE = {
    "gradiend": """GradiendModel ParamMappedGradiendModel ModelWithGradiend TextFilterConfig TextPredictionDataCreator
        TextPreprocessConfig preprocess_texts resolve_base_data TextPredictionTrainer TextPredictionConfig TrainerConfig
        TrainingArguments setup_logging get_logger set_seed load_training_stats GradientTrainingDataset
        TextGradientTrainingDataset create_model_with_gradiend PrePruneConfig PostPruneConfig __version__""",
    "gradiend.model": "GradiendModel ParamMappedGradiendModel ModelWithGradiend is_decoder_only_model",
    "gradiend.model.core": """build_gradiend_from_base_model get_backbone_module split_backbone_vs_head_params
        debug_param_overlap""",
    "gradiend.model.core.backbone": """build_gradiend_from_base_model get_backbone_module split_backbone_vs_head_params
        debug_param_overlap""",
    "gradiend.model.model": "GradiendModel",
    "gradiend.model.param_mapped": "ParamMappedGradiendModel",
    "gradiend.model.model_with_gradiend": "ModelWithGradiend",
    "gradiend.model.utils": "is_decoder_only_model resolve_device_config_for_model",
    "gradiend.model.layers": "LargeLinear",
    "gradiend.trainer": """Trainer TrainerConfig TrainingArguments set_seed load_training_stats train_core
        GradientTrainingDataset TextGradientTrainingDataset create_model_with_gradiend TrainingCallback
        EvaluationCallback CheckpointCallback NormalizationCallback LoggingCallback get_default_callbacks
        EarlyStoppingCallback TensorBoardCallback WandbCallback PrePruneConfig PostPruneConfig pre_prune post_prune""",
    "gradiend.trainer.core.pruning": "PrePruneConfig PostPruneConfig pre_prune post_prune",
    "gradiend.trainer.factory": "create_model_with_gradiend",
    "gradiend.trainer.trainer": "Trainer set_seed",
    "gradiend.trainer.core.arguments": "TrainingArguments",
    "gradiend.trainer.core.callbacks": """TrainingCallback EvaluationCallback CheckpointCallback NormalizationCallback
        LoggingCallback get_default_callbacks EarlyStoppingCallback TensorBoardCallback WandbCallback""",
    "gradiend.trainer.core.dataset": "GradientTrainingDataset",
    "gradiend.trainer.core.feature_definition": "FeatureLearningDefinition",
    "gradiend.trainer.core.stats": "write_training_stats load_training_stats",
    "gradiend.trainer.core.training": "train",
    "gradiend.trainer.text": """TextPredictionTrainer TextPredictionConfig TextBatchedDataset TextTrainingDataset
        TextPredictionModelWithGradiend DecoderModelWithMLMHead train_mlm_head create_masked_pair_from_text
        TextModelWithGradiend TextBatchedDatasetBase AutoModelForLM AutoTokenizerForLM InstructTokenizerWrapper""",
    "gradiend.trainer.text.common.dataset": "TextGradientTrainingDataset TextBatchedDatasetBase",
    "gradiend.trainer.text.common.lm_eval": "evaluate_mlm evaluate_clm_perplexity evaluate_clm",
    "gradiend.trainer.text.common.model_base": "TextModelWithGradiend",
    "gradiend.trainer.text.prediction.dataset": """TextTrainingDataset TextBatchedDataset
        create_masked_pair_from_text""",
    "gradiend.trainer.text.prediction.decoder_eval_utils": "evaluate_probability_shift_score compute_lms",
    "gradiend.trainer.text.prediction.decoder_only_mlm": "DataFrameMLMDataset DecoderModelWithMLMHead train_mlm_head",
    "gradiend.trainer.text.prediction.model_with_gradiend": "TextPredictionModelWithGradiend",
    "gradiend.trainer.text.prediction.trainer": "TextPredictionTrainer TextPredictionConfig",
    "gradiend.trainer.text.prediction.unified_schema": """UNIFIED_MASKED UNIFIED_SPLIT UNIFIED_FACTUAL_CLASS
        UNIFIED_ALTERNATIVE_CLASS UNIFIED_FACTUAL UNIFIED_ALTERNATIVE UNIFIED_TRANSITION transition_id""",
    "gradiend.trainer.text.prediction.unified_data": """resolve_dataframe load_hf_per_class merged_to_unified
        per_class_dict_to_unified merge_per_class_dfs apply_class_merge_to_merged_df all_subsets_to_mlm_df
        apply_factual_casing UNIFIED_MASKED""",
    "gradiend.data": """TextFilterConfig TextPreprocessConfig TextPredictionDataCreator preprocess_texts
        resolve_base_data""",
    "gradiend.data.core.base_loader": "resolve_base_data",
    "gradiend.data.text": "iter_sentences_from_texts",
    "gradiend.data.text.filter_config": "TextFilterConfig",
    "gradiend.data.text.prediction": "filter_sentences mask_sentence TextPredictionDataCreator",
    "gradiend.data.text.prediction.creator": "TextPredictionDataCreator",
    "gradiend.data.text.prediction.filter_engine": "filter_sentences mask_sentence",
    "gradiend.evaluator": "Evaluator EncoderEvaluator DecoderEvaluator get_correlation read_decoder_stats_file",
    "gradiend.evaluator.encoder": "EncoderEvaluator",
    "gradiend.evaluator.decoder": "DecoderEvaluator",
    "gradiend.evaluator.encoder_metrics": "get_encoder_metrics_from_dataframe get_correlation",
    "gradiend.visualizer": "Visualizer plot_encoder_distributions plot_training_convergence",
    "gradiend.visualizer.convergence": "plot_training_convergence",
    "gradiend.visualizer.encoder_distributions": "plot_encoder_distributions",
    "gradiend.visualizer.probability_shifts": "plot_probability_shifts",
    "gradiend.util": """normalize_split_name hash_it json_loads convert_tuple_keys_recursively
        restore_tuple_keys_recursively hash_model_weights set_requires_grad_true""",
    "gradiend.util.paths": """ARTIFACT_MODEL resolve_output_path require_output_path resolve_encoder_analysis_path
        resolve_decoder_stats_path has_saved_model""",
    "gradiend.util.metrics": "accuracy_score precision_score recall_score f1_score",
}


@pytest.mark.parametrize("module", SURFACE)
def test_every_documented_name_can_be_imported(module):
    loaded = importlib.import_module(module)
    missing = [name for name in SURFACE[module].split() if not hasattr(loaded, name)]
    assert missing == []


def test_what_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchThing"):
        importlib.import_module("gradiend").NoSuchThing  # noqa: B018
