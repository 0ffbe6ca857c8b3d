"""What comes out is added in one place too: a metric of rewrites, a metric of encodings, a plot, a table format."""

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_data

from gradiend import TextFilterConfig, TextPredictionDataCreator, TextPredictionTrainer, resolve_base_data
from gradiend.data.core._table_formats import TABLE_FORMATS, TableFormat
from gradiend.data.unified import resolve_dataframe
from gradiend.evaluator import EncoderEvaluator, Evaluator, LMSThresholdPolicy, read_decoder_stats_file
from gradiend.util.paths import resolve_decoder_stats_path
from gradiend.visualizer import Visualizer

LRS = [0.1, 0.3, 0.5]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


class TestMetricOfRewrites:
    """One function of the grid."""

    @staticmethod
    def closeness(grid):
        """How close the step is to 0.3, beside what is measured anyway."""
        return {
            key: entry if key == "base" else {**entry, "closeness": -abs(entry["id"]["learning_rate"] - 0.3)}
            for key, entry in grid.items()
        }

    def test_it_is_chosen_by_saved_and_rewritten_with(self, bert, tmp_path):
        trained = tiny_data.trainer(bert, {"experiment_dir": str(tmp_path)}).train()
        asked = {"summary_extractor": self.closeness, "summary_metrics": ["closeness", "SG"]}
        results = trained.evaluate_decoder(lrs=LRS, selector=LMSThresholdPolicy(ratio=0.0), **asked)
        assert results["closeness"]["learning_rate"] == 0.3
        assert results["closeness"]["value"] == 0
        assert results["SG"]["learning_rate"] in LRS
        saved = read_decoder_stats_file(resolve_decoder_stats_path(str(tmp_path), metric_name="closeness"))
        assert saved["closeness"]["learning_rate"] == 0.3
        path = trained.rewrite_base_model(results, "closeness", output_dir=str(tmp_path / "rewritten"))
        record = json.loads((Path(path) / "gradiend_rewrite.json").read_text())
        assert record["learning_rate"] == 0.3


class Spread(EncoderEvaluator):
    """Measures the distance of the outermost encodings too."""

    def evaluate_encoder(self, trainer, encoder_df=None, **kwargs):
        result = super().evaluate_encoder(trainer, encoder_df=encoder_df, **kwargs)
        encoded = encoder_df["encoded"]
        return {**result, "spread": float(encoded.max() - encoded.min())}


class Bars(Visualizer):
    """Draws encodings in its own way, and something new."""

    def plot_encoder_distributions(self, encoder_df=None, **kwargs):
        path = Path(self.trainer.experiment_dir) / "bars.txt"
        path.write_text("\n".join("#" * round(20 * abs(value)) for value in encoder_df["encoded"]))
        return str(path)

    def plot_losses(self):
        return self.trainer.get_training_stats()["losses"]


class Own(Evaluator):
    """Everything of one's own in one class."""

    def __init__(self, trainer, visualizer_class=None):
        super().__init__(trainer, encoder_evaluator=Spread(), visualizer_class=Bars)

    def plot_losses(self):
        return self._visualizer.plot_losses()


class TestMetricOfEncodingsAndPlot:
    """One evaluator, named by `evaluator_class`."""

    @pytest.fixture
    def trained(self, bert, tmp_path):
        return tiny_data.trainer(bert, {"experiment_dir": str(tmp_path)}, evaluator_class=Own).train()

    def test_the_metric_is_in_the_results_and_in_their_file(self, trained):
        result = trained.evaluate_encoder(return_df=True)
        encoded = result["encoder_df"]["encoded"]
        assert result["spread"] == pytest.approx(encoded.max() - encoded.min())
        file = Path(trained.experiment_dir) / "encoded_values_split_test.json"
        assert json.loads(file.read_text())["spread"] == result["spread"]

    def test_the_plot_is_the_one_that_is_drawn(self, trained):
        result = trained.evaluate_encoder(plot=True, plot_kwargs={"show": False}, return_df=True)
        drawn = Path(trained.experiment_dir) / "bars.txt"
        assert len(drawn.read_text().split("\n")) == len(result["encoder_df"])
        assert not (drawn.parent / "encoder_analysis.png").exists()
        drawn.unlink()
        assert trained.plot_encoder_distributions(encoder_df=result["encoder_df"]) == str(drawn)
        assert len(trained.evaluator.plot_losses()) == tiny_data.QUICK["max_steps"]


class TestTableFormat:
    """One entry of `TABLE_FORMATS`."""

    @pytest.fixture(autouse=True)
    def known(self, monkeypatch):
        json_array = TableFormat(
            (".json",),
            lambda path: pd.DataFrame(json.loads(path.read_text())),
            lambda frame, path: frame.to_json(path, orient="records"),
        )
        monkeypatch.setitem(TABLE_FORMATS, "json", json_array)

    def test_a_creator_writes_it_and_answers_from_it_and_a_trainer_reads_it(self, bert, tmp_path, caplog):
        texts = [f"{word} went home at {hour}." for hour in range(20) for word in ("he", "she")]

        def create():
            classes = [TextFilterConfig([word], id=word) for word in ("he", "she")]
            options = {"feature_targets": classes, "output_dir": tmp_path, "output_format": "json", "use_cache": True}
            return TextPredictionDataCreator(texts, **options).generate_training_data(format="unified")

        rows = create()
        path = tmp_path / "training.json"
        assert json.loads(path.read_text())[0].keys() == set(rows.columns)
        with caplog.at_level("INFO"):
            pd.testing.assert_frame_equal(create(), rows)
        assert "is used again" in caplog.text
        pd.testing.assert_frame_equal(resolve_dataframe(path), rows, check_dtype=False)
        trainer = TextPredictionTrainer(bert, data=str(path))
        assert sorted(trainer.target_classes) == ["he", "she"]
        assert len(trainer.combined_data) == len(rows)

    def test_texts_are_read_from_it(self, tmp_path):
        path = tmp_path / "texts.json"
        path.write_text(json.dumps([{"text": "one"}, {"text": "two"}]))
        assert sorted(resolve_base_data(str(path))) == ["one", "two"]

    def test_errors_name_it(self, tmp_path):
        for path in ("missing.csv", "missing.xyz"):
            with pytest.raises((ValueError, OSError), match=r"\.json"):
                resolve_dataframe(tmp_path / path)
        with pytest.raises(ValueError, match="json"):
            TextPredictionDataCreator([], output_format="jsn")
        with pytest.raises(ValueError, match=r"\.json"):
            TextPredictionDataCreator(["a"]).generate_neutral_data(additional_excluded_words=["b"], output="a.xyz")
