"""The Python in the README runs as written, on the embedded model and its sentences."""

import re
from pathlib import Path

from transformers import AutoModelForMaskedLM

from gradiend.demo import model_path, sentences

README = Path(__file__).parent.parent / "README.md"


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert sum(bool(line.strip()) for line in code.splitlines()) == 8
    monkeypatch.chdir(tmp_path)
    Path("sentences.txt").write_text("\n".join(sentences(2000)), encoding="utf-8")
    exec(compile(code.replace("bert-base-cased", str(model_path())), str(README), "exec"), {})
    assert float(capsys.readouterr().out.strip()) > 0.9
    AutoModelForMaskedLM.from_pretrained("bert-that-says-they")
