"""The Python in the README and the guides runs as written, on the embedded model and its sentences."""

import pytest
from documents import DOCS, README, python_blocks
from transformers import AutoModelForMaskedLM

from gradiend.demo import model_path, sentences

BLOCKS = python_blocks(README)


def run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("bert-base-cased", str(model_path())), str(README), "exec"), {})


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    code = BLOCKS[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) == 8
    (tmp_path / "sentences.txt").write_text("\n".join(sentences(900)), encoding="utf-8")
    run(code, tmp_path, monkeypatch)
    assert float(capsys.readouterr().out.strip()) > 0.9
    AutoModelForMaskedLM.from_pretrained("bert-that-says-they")


@pytest.mark.parametrize("code", BLOCKS[1:])
def test_the_other_blocks_run_too(code, tmp_path, monkeypatch):
    run(code, tmp_path, monkeypatch)


def test_the_python_of_the_data_guide_runs(tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    run("".join(python_blocks(DOCS / "data.md")), tmp_path, monkeypatch)
    assert capsys.readouterr().out.startswith("18 rows of 2 classes; splits: train 18.")
