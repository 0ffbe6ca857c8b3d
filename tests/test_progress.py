"""Bars: a line that is rewritten in a terminal, whole lines now and then in a file, nothing where that is asked for."""

import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest
import tiny_data
from tqdm.utils import disp_len

from gradiend.util import _progress
from gradiend.util._progress import Progress, duration, set_quiet
from gradiend.util.logging import setup_logging

WORK = """
import sys, time
from gradiend.util import _progress
_progress.EVERY, _progress.NEWS = 0.2, 0.0
with _progress.Progress("training", 60) as bar:
    for step in range(1, 61):
        time.sleep(0.01)
        known = ["correlation 0.98", "3SG +0.97 / 3PL −0.99"] if step >= 30 else []
        bar.advance(1, "loss 0.0123", *known, news=step == 30)
with _progress.Progress("encoding", 3, "batch", brief=True) as bar:
    for _ in bar.over(range(3)):
        pass
"""
LINE = re.compile(
    r"training: step (\d+)/60, loss 0\.0123(, correlation 0\.98, 3SG \+0\.97 / 3PL −0\.99)?, (\d+ s left|took \d+ s)"
)
UTF8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}


def test_a_log_file_gets_few_whole_lines(tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as file:
        subprocess.run([sys.executable, "-c", WORK], stderr=file, check=True, env=UTF8)
    text = log.read_text(encoding="utf-8")
    assert "\r" not in text
    assert "encoding" not in text  # it was done at once
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(lines), text
    steps = [int(line[1]) for line in lines]
    assert steps == sorted(steps)
    assert 3 <= len(steps) <= 30
    assert 30 in steps  # the evaluation has a line of its own
    assert [bool(line[2]) for line in lines] == [step >= 30 for step in steps]
    assert [line[3].endswith("left") for line in lines] == [True] * (len(lines) - 1) + [False]
    assert steps[-1] == 60


def in_a_terminal(width: int) -> str:
    """What the work writes to a terminal of `width` columns."""
    own, others = pty.openpty()
    fcntl.ioctl(others, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", WORK], stdin=others, stderr=others, env=UTF8)
    os.close(others)
    written = b""
    # Linux reports the end of a terminal as an error.
    with suppress(OSError):
        while piece := os.read(own, 1 << 16):
            written += piece
    os.close(own)
    assert process.wait() == 0
    return written.decode()


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_shows_a_bar_that_fits(width):
    frames = in_a_terminal(width).replace("\r\n", "\n").split("\r")
    assert len(frames) > 3
    assert max(disp_len(frame.rstrip()) for frame in frames) < width
    [last] = [frame for frame in frames if "took" in frame and "training" in frame]
    assert last.count("\n") == 1  # the bar stays
    assert "loss 0.0123, correlation 0.98, 3SG +0.97 / 3PL −0.99" in last
    assert "100 %" in last
    assert ("██████" in last, "60/60" in last) == (width == 200, width == 200)
    assert not any("encoding" in frame for frame in frames)


@pytest.mark.parametrize("total", [None, 0, 7, 12345])
@pytest.mark.parametrize("notes", [(), ("loss 1", "女性 +0.97 / 男性 −0.99"), ("a\x1b[2Jb\nc {x}",)])
def test_a_line_fits_every_width_and_loses_whole_notes_from_the_front(total, notes):
    bar = Progress("training", total, shown=False)
    bar.advance(3, *notes)
    wide = "".join(bar.parts(None))
    assert "\x1b" not in wide
    assert "\n" not in wide
    assert all(_progress.one_line(note) in wide for note in notes)
    for width in range(10, 120):
        before, after = bar.parts(width)
        assert disp_len(before + after) <= width
        if width >= 60 and notes:
            assert _progress.one_line(notes[-1]) in before + after


def test_a_quiet_process_shows_nothing(capsys, monkeypatch):
    def work():
        with Progress("work", 2) as bar:
            bar.advance(2)
        return capsys.readouterr().err

    assert work() == "work: step 2/2, took 0 s\n"
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert work() == ""
    monkeypatch.setenv("TQDM_DISABLE", "0")
    assert work() != ""
    set_quiet()
    assert work() == ""
    set_quiet(False)
    assert work() != ""
    monkeypatch.setattr(sys, "stderr", None)
    assert work() == ""


def test_work_that_fails_says_where(capsys):
    def work():
        with Progress("work", 9, "batch") as bar:
            bar.advance(4, "loss 1")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert capsys.readouterr().err == "work: batch 4/9, loss 1, took 0 s\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (3599, "60 min"), (6000, "1 h 40 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_log_is_written_beside_the_bars(capsys):
    handler = _progress.BesideBars()
    handler.emit(logging.LogRecord("gradiend", logging.INFO, "f", 1, "told", None, None))
    assert capsys.readouterr().err == "told\n"


def test_a_training_and_an_evaluation_in_a_log_file(tmp_path, capfd):
    trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path / "bert"), {"max_seeds": 2, "min_convergent_seeds": None})
    capfd.readouterr()
    trainer.train()
    trainer.evaluate_decoder(lrs=[0.01, 0.1])
    written = capfd.readouterr()
    assert "\r" not in written.err
    assert written.out == ""
    number = r"[+−]\d\.\d\d"
    means = rf"correlation -?\d\.\d{{3}}, SG {number} / PL {number}"
    [first, second, decoder] = written.err.splitlines()
    for seed, line in enumerate([first, second]):
        assert re.fullmatch(rf"seed {seed}: step 4/4, loss [\d.e-]+, {means}, took \d+ s", line), line
    assert re.fullmatch(r"rewrites: model 5/5, factor -?1 step 0\.1, [\d.]+( ± [\d.]+)? kept, took \d+ s", decoder)


def test_a_level_of_the_log_may_be_written_in_any_case(monkeypatch):
    logger = logging.getLogger("gradiend")
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    before = logger.level
    try:
        setup_logging("debug")
        assert logger.level == logging.DEBUG
        with pytest.raises(ValueError, match="LOUD"):
            setup_logging("loud")
    finally:
        logger.setLevel(before)
