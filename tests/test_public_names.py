"""The documented import surface: every name is where the documentation says."""

import importlib
import os
import subprocess
import sys

import pytest
import tiny

UNIFIED_SCHEMA = """UNIFIED_MASKED UNIFIED_SPLIT UNIFIED_FACTUAL_CLASS UNIFIED_ALTERNATIVE_CLASS UNIFIED_FACTUAL
    UNIFIED_ALTERNATIVE UNIFIED_TRANSITION transition_id"""
SURFACE = {
    "gradiend": """GradiendModel ParamMappedGradiendModel ModelWithGradiend TextFilterConfig TextPredictionDataCreator
        TextPreprocessConfig SpacyTagSpec preprocess_texts resolve_base_data TextPredictionTrainer TextPredictionConfig
        TrainerConfig TrainingArguments PrePruneConfig PostPruneConfig setup_logging get_logger set_seed
        load_training_stats GradientTrainingDataset TextGradientTrainingDataset create_model_with_gradiend
        plot_topk_overlap_heatmap plot_topk_overlap_venn __version__ compute_similarity_matrix
        compute_grouped_similarity_matrices plot_comparison_heatmap plot_similarity_heatmap PlotStyleConfig
        PlotStyleStatus configure_plot_style check_plot_environment format_transition_label transition_bidi_arrow
        transition_directed_arrow""",
    "gradiend.comparison": """ComparisonResult compute_similarity_matrix compute_grouped_similarity_matrices
        plot_similarity_heatmap plot_similarity_heatmap_with_correlation""",
    "gradiend.model": "GradiendModel ParamMappedGradiendModel ModelWithGradiend is_decoder_only_model",
    "gradiend.model.core": """build_gradiend_from_base_model get_backbone_module split_backbone_vs_head_params
        debug_param_overlap""",
    "gradiend.model.core.backbone": """build_gradiend_from_base_model get_backbone_module split_backbone_vs_head_params
        debug_param_overlap""",
    "gradiend.model.model": "GradiendModel",
    "gradiend.model.param_mapped": "ParamMappedGradiendModel",
    "gradiend.model.model_with_gradiend": "ModelWithGradiend",
    "gradiend.model.utils": """get_activation freeze_params_until_target save_model_weights load_model_weights
        read_gradiend_context write_gradiend_context resolve_device_config_for_model is_decoder_only_model""",
    "gradiend.model.layers": "LargeLinear",
    "gradiend.trainer": """Trainer TrainerConfig TrainingArguments set_seed load_training_stats train_core
        GradientTrainingDataset TextGradientTrainingDataset create_model_with_gradiend TrainingCallback
        EvaluationCallback CheckpointCallback NormalizationCallback LoggingCallback get_default_callbacks
        EarlyStoppingCallback TensorBoardCallback WandbCallback PrePruneConfig PostPruneConfig pre_prune post_prune""",
    "gradiend.trainer.factory": "create_model_with_gradiend",
    "gradiend.trainer.trainer": "Trainer set_seed",
    "gradiend.trainer.core": """train TrainingCallback EvaluationCallback CheckpointCallback NormalizationCallback
        LoggingCallback get_default_callbacks""",
    "gradiend.trainer.core.arguments": "TrainingArguments",
    "gradiend.trainer.core.callbacks": """TrainingCallback EvaluationCallback CheckpointCallback NormalizationCallback
        LoggingCallback get_default_callbacks EarlyStoppingCallback TensorBoardCallback WandbCallback""",
    "gradiend.trainer.core.dataset": "GradientTrainingDataset",
    "gradiend.trainer.core.feature_definition": "FeatureLearningDefinition",
    "gradiend.trainer.core.pruning": "PrePruneConfig PostPruneConfig pre_prune post_prune",
    "gradiend.trainer.core.stats": "write_training_stats load_training_stats",
    "gradiend.trainer.core.training": "train",
    "gradiend.trainer.text": """TextPredictionTrainer TextPredictionConfig TextBatchedDataset TextTrainingDataset
        TextPredictionModelWithGradiend DecoderModelWithMLMHead train_mlm_head create_masked_pair_from_text
        TextModelWithGradiend TextBatchedDatasetBase AutoModelForLM AutoTokenizerForLM InstructTokenizerWrapper""",
    "gradiend.trainer.text.common": """TextModelWithGradiend TextBatchedDatasetBase AutoModelForLM AutoTokenizerForLM
        InstructTokenizerWrapper""",
    "gradiend.trainer.text.common.dataset": "TextGradientTrainingDataset TextBatchedDatasetBase",
    "gradiend.trainer.text.common.lm_eval": "evaluate_mlm evaluate_clm_perplexity evaluate_clm",
    "gradiend.trainer.text.common.model_base": "TextModelWithGradiend",
    "gradiend.trainer.text.prediction.dataset": """TextTrainingDataset TextBatchedDataset
        create_masked_pair_from_text""",
    "gradiend.trainer.text.prediction.decoder_eval_utils": "evaluate_probability_shift_score compute_lms",
    "gradiend.trainer.text.prediction.decoder_only_mlm": "DataFrameMLMDataset DecoderModelWithMLMHead train_mlm_head",
    "gradiend.trainer.text.prediction.model_with_gradiend": "TextPredictionModelWithGradiend",
    "gradiend.trainer.text.prediction.trainer": "TextPredictionTrainer TextPredictionConfig",
    "gradiend.trainer.text.prediction.unified_schema": UNIFIED_SCHEMA,
    "gradiend.trainer.text.prediction.unified_data": UNIFIED_SCHEMA
    + """ resolve_dataframe load_hf_per_class merged_to_unified per_class_dict_to_unified merge_per_class_dfs
        apply_class_merge_to_merged_df all_subsets_to_mlm_df apply_factual_casing""",
    "gradiend.data": """SpacyTagSpec TextFilterConfig TextPreprocessConfig TextPredictionDataCreator preprocess_texts
        resolve_base_data""",
    "gradiend.data.core.base_loader": "resolve_base_data",
    "gradiend.data.core.spacy_util": "load_spacy_model",
    "gradiend.data.text": """SpacyTagSpec TextFilterConfig TextPreprocessConfig TextPredictionDataCreator
        preprocess_texts resolve_base_data iter_sentences_from_texts""",
    "gradiend.data.text.filter_config": "TextFilterConfig SpacyTagSpec",
    "gradiend.data.text.prediction": "filter_sentences mask_sentence TextPredictionDataCreator",
    "gradiend.data.text.prediction.creator": "TextPredictionDataCreator",
    "gradiend.data.text.prediction.filter_engine": """filter_sentences filter_sentences_multi match_sentence_one_config
        mask_sentence token_matches_tags""",
    "gradiend.evaluator": """Evaluator EncoderEvaluator DecoderEvaluator read_decoder_stats_file get_model_metrics
        get_correlation""",
    "gradiend.evaluator.encoder": "EncoderEvaluator encode_dataset_to_rows",
    "gradiend.evaluator.decoder": """DecoderEvaluator derive_default_feature_factor derive_feature_factor_for_class
        default_decoder_feature_factors Candidate BaseContext SelectionPolicy LMSThresholdPolicy LMSTimesMetricPolicy
        default_extract_candidates compute_metric_summaries read_decoder_stats_file""",
    "gradiend.evaluator.encoder_metrics": """get_correlation get_encoder_metrics_from_dataframe get_model_metrics
        invalidate_encoder_metrics_cache""",
    "gradiend.visualizer": """Visualizer plot_encoder_distributions plot_training_convergence plot_encoder_scatter
        compute_topk_sets plot_topk_venn plot_topk_overlap_heatmap plot_topk_overlap_venn plot_comparison_heatmap
        comparison_matrix_from_cell_stat""",
    "gradiend.visualizer.convergence": "plot_training_convergence",
    "gradiend.visualizer.encoder_distributions": "plot_encoder_distributions",
    "gradiend.visualizer.probability_shifts": "plot_probability_shifts",
    "gradiend.visualizer.topk": "plot_topk_overlap plot_topk_overlap_venn plot_topk_overlap_heatmap",
    "gradiend.util": """normalize_split_name hash_it json_loads convert_tuple_keys_recursively
        restore_tuple_keys_recursively hash_model_weights set_requires_grad_true""",
    "gradiend.util.logging": "setup_logging get_logger suppress_tokenizer_length_warning",
    "gradiend.util.metrics": "accuracy_score precision_score recall_score f1_score",
    "gradiend.util.paths": """ARTIFACT_MODEL ARTIFACT_ENCODED_VALUES ARTIFACT_ENCODER_PLOT ARTIFACT_CONVERGENCE_PLOT
        ARTIFACT_DECODER_ANALYSIS_DIR ARTIFACT_DECODER_ANALYSIS_SUMMARY ARTIFACT_MODEL_CHANGED ARTIFACT_CACHE_GRADIENTS
        resolve_output_path require_output_path resolve_encoder_analysis_path resolve_encoder_plot_path
        resolve_encoder_eval_result_path resolve_encoder_eval_result_path_legacy resolve_decoder_stats_path
        resolve_decoder_per_model_cache_path resolve_decoder_grid_cache_path resolve_decoder_mlm_head_dir
        resolve_classification_head_dir resolve_custom_prediction_head_dir invalidate_experiment_caches
        create_readable_key is_under_temp_dir should_use_cached has_saved_model""",
}


@pytest.mark.parametrize("module", SURFACE)
def test_every_documented_name_can_be_imported(module):
    loaded = importlib.import_module(module)
    missing = [name for name in SURFACE[module].split() if not hasattr(loaded, name)]
    assert missing == []


@pytest.mark.parametrize("module", [name for name in SURFACE if hasattr(importlib.import_module(name), "__path__")])
def test_a_package_lists_its_public_names_and_a_star_import_gives_just_these(module):
    loaded, given = importlib.import_module(module), {}
    exec(f"from {module} import *", given)
    assert given.keys() - {"__builtins__"} == set(loaded.__all__) <= set(dir(loaded))
    assert set(SURFACE[module].split()) <= set(loaded.__all__)


def test_what_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchThing"):
        importlib.import_module("gradiend").NoSuchThing  # noqa: B018


def test_no_documented_import_needs_an_optional_package():
    """All modules in one process, which then has none of the optional packages loaded."""
    code = (
        "import importlib, sys\n"
        f"for module, names in {SURFACE!r}.items():\n"
        "    [getattr(importlib.import_module(module), name) for name in names.split()]\n"
        "optional = {'matplotlib', 'seaborn', 'plotly', 'venn', 'matplotlib_venn', 'datasets', 'spacy'}\n"
        "optional |= {'tensorboard', 'wandb'}\n"
        "print(sorted(optional & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def import_beside(folder, *distributions: dict[str, str]) -> list[str]:
    """What importing gradiend warns of, with these distributions (file → content) on the path too."""
    for number, files in enumerate(distributions):
        place = folder / str(number) / files.pop("folder", "gradiend-0.2.3.dist-info")
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_text(content, encoding="utf-8")
    paths = [str(folder / str(number)) for number in range(len(distributions))]
    code = """if True:
        import sys, warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import gradiend, gradiend.cli
        print(*(str(one.message) for one in caught), sep="\\n")
        assert not {"torch", "pandas"} & set(sys.modules)
    """
    path = os.pathsep.join([*paths, *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    return done.stdout.split("\n")[:-1]


METADATA = "Metadata-Version: 2.1\nName: gradiend\nVersion: 0.2.3\n"
OURS = {"METADATA": METADATA, "entry_points.txt": "[console_scripts]\ngradiend = gradiend.cli:main\n"}


def test_another_project_of_our_name_is_noticed_once(tmp_path):
    [message] = import_beside(tmp_path / "theirs", {"METADATA": METADATA})
    assert f"version 0.2.3 in {tmp_path / 'theirs' / '0'}" in message
    assert "pip uninstall gradiend" in message
    assert "pip install ." in message
    [message] = import_beside(tmp_path / "both", {"METADATA": METADATA}, {**OURS}, {"METADATA": METADATA})
    assert message.count("version 0.2.3") == 2


def test_this_project_found_twice_or_one_that_only_sounds_alike_is_no_other(tmp_path):
    alike = {"folder": "gradiend_iend-1.0.dist-info", "METADATA": METADATA.replace("gradiend", "gradiend-iend")}
    assert import_beside(tmp_path, {**OURS}, alike) == [""]


def test_second_names_of_what_a_model_is_scored_on():
    path_words = importlib.import_module("gradiend.trainer.text.common.model_base").word_tokenizer
    assert path_words is importlib.import_module("gradiend.objectives").objective_of
    assert importlib.import_module("gradiend.evaluator.lms").tokenize_texts is not None
    model = importlib.import_module("gradiend.trainer.text").TextPredictionModelWithGradiend.from_pretrained(
        tiny.bert(), tokenizer=tiny.bert_tokenizer()
    )
    text, word = ["the cat saw [MASK] ."], ["he"]
    assert model.words(text, word) == model.objective.tokenize(text, word)
