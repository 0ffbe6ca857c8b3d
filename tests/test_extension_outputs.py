"""What comes out is added in one place too: a metric of rewrites, a metric of encodings, a plot."""

import json
from pathlib import Path

import pytest
import tiny_data

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
