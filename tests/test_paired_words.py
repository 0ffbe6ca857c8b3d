"""Training data by its words: fixed partners, words to the left, words of a split, equal words, what is left out."""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections import Counter

import pandas as pd
import pytest

import gradiend
from gradiend import DataCreator, Interrupted, TextPredictionConfig, TextPredictionDataCreator, TextPredictionTrainer
from gradiend.data import PairedTextFilterConfig, TextFilterConfig, TextPreprocessConfig, preprocess_texts
from gradiend.data.core import _text_source
from gradiend.experiment.run import rows_from
from gradiend.experiment.sections import Corpus

PAIRS = [("actor", "actress"), ("waiter", "waitress"), ("king", "queen"), ("duke", "duchess"), ("uncle", "aunt")]
WORDS = [*(word for pair in PAIRS for word in pair), "crowd", "mob"]
MALE = PairedTextFilterConfig(PAIRS, id="M")
FEMALE = MALE.reversed(id="F")
PLACES = [f"{size} {place}" for size in ("old", "new") for place in ("house", "river", "door", "lamp", "barn", "mill")]


def texts(words=None, number=12) -> list[str]:
    """`number` sentences for each word, which begins half of these."""
    found = []
    for word, at in itertools.product(WORDS[:10] if words is None else words, range(number)):
        index = WORDS.index(word) * 1_000 + at
        place = PLACES[at % len(PLACES)]
        found.append(
            f"{word.title()} number {index} saw the {place}." if at % 2 else f"At {place} {index} the {word} slept."
        )
    return found


def creator(given=None, **options) -> TextPredictionDataCreator:
    options = {"feature_targets": [MALE, FEMALE], **options}
    return TextPredictionDataCreator(texts() if given is None else given, **options)


def partner_of(word: str) -> str:
    both = {**dict(PAIRS), **{other: word for word, other in PAIRS}}
    found = both[word.lower()]
    return found.title() if word[0].isupper() else found


class TestPairs:
    """PairedTextFilterConfig."""

    @pytest.mark.parametrize("targets", [[MALE, FEMALE], [MALE, TextFilterConfig([b for _, b in PAIRS], id="F")]])
    def test_the_alternative_of_a_row_is_the_partner_of_its_word(self, targets):
        frame = creator(feature_targets=targets).generate_training_data(format="unified")
        assert set(frame["label"].str.lower()) == {word for pair in PAIRS for word in pair}
        assert frame["alternative"].tolist() == [partner_of(word) for word in frame["label"]]
        assert frame["alternative"].str.istitle().any()

    def test_frames_of_a_class_have_the_partner_in_a_column_of_the_other_class(self, tmp_path):
        options = {"output_dir": tmp_path, "use_cache": True}
        frames, again = (creator(**options).generate_training_data() for _ in range(2))
        for name, other in (("M", "F"), ("F", "M")):
            assert frames[name][other].tolist() == [partner_of(word) for word in frames[name]["label"]]
            pd.testing.assert_frame_equal(frames[name], again[name], check_dtype=False)
        # the trainer takes them as pairs
        unified = TextPredictionTrainer("unused", data=frames, target_classes=["M", "F"]).combined_data
        assert unified["alternative"].tolist() == [partner_of(word) for word in unified["factual"]]

    def test_held_out_pairs_stay_together(self):
        frames = creator().generate_training_data(format="unified")
        data = TextPredictionTrainer("unused", data=frames, target_classes=["M", "F"], split_col="heldout")
        words = data.combined_data.groupby("split")["factual"].agg(lambda own: set(own.str.lower()))
        assert all({partner_of(word) for word in own} == own for own in words)
        assert words.map(len).to_dict() == {"train": 6, "validation": 2, "test": 2}

    def test_a_third_class_has_sampled_alternatives(self):
        plural = TextFilterConfig(["crowd"], id="P")
        frame = creator(texts() + texts(["crowd"]), feature_targets=[MALE, FEMALE, plural]).generate_training_data(
            format="unified"
        )
        inner = frame[frame["label_class"].isin(["M", "F"]) & frame["alternative_class"].isin(["M", "F"])]
        assert inner["alternative"].tolist() == [partner_of(word) for word in inner["label"]]
        assert set(frame.loc[frame["alternative_class"] == "P", "alternative"].str.lower()) == {"crowd"}

    def test_other_masks_and_nested_configs(self):
        nested = TextFilterConfig(
            [PairedTextFilterConfig(PAIRS[:3]), PairedTextFilterConfig(PAIRS[3:])], id="M", mask="<>"
        )
        frames = creator(feature_targets=[nested, FEMALE]).generate_training_data()
        assert frames["M"]["F"].tolist() == [partner_of(word) for word in frames["M"]["label"]]
        assert frames["M"]["masked"].str.contains("<>").all()

    def test_the_options_are_those_of_a_filter(self):
        config = PairedTextFilterConfig(dict(PAIRS), spacy_tags={"pos": "NOUN"}, weight=2.0, min_left_context_words=3)
        assert config.words == [word for word, _ in PAIRS]
        assert config.id == "actor"
        turned = config.reversed()
        assert (turned.id, turned.weight, turned.spacy_tags, turned.min_left_context_words) == (
            "actress", 2.0, {"pos": "NOUN"}, 3,
        )  # fmt: skip
        assert turned.reversed(config.id) == config

    @pytest.mark.parametrize(
        ("pairs", "error", "message"),
        [
            ([("actor", "actress"), ("actor", "aunt")], ValueError, "two partners of 'actor'"),
            ([("actor", "Actor")], ValueError, "its own partner"),
            ([("actor", "")], ValueError, "A word of pairs"),
            ([], ValueError, "got none"),
            (["ab"], TypeError, "'ab'"),
            ([("a", "b", "c")], TypeError, "pairs is a list"),
            ("ab", TypeError, "pairs is a list"),
            (3, TypeError, "pairs is a list"),
        ],
    )
    def test_bad_pairs(self, pairs, error, message):
        with pytest.raises(error, match=message):
            PairedTextFilterConfig(pairs)

    def test_a_partner_without_a_class_is_an_error_before_the_work(self):
        with pytest.raises(ValueError, match=r"'actress', the partner of 'actor' of 'M', is a word of no other class"):
            creator(feature_targets=[MALE, TextFilterConfig(["crowd"], id="P")])
        with pytest.raises(ValueError, match="two partners of 'b'"):
            PairedTextFilterConfig([("a", "b"), ("c", "b")]).reversed()
        with pytest.raises(TypeError, match="Did you mean 'pairs'"):
            PairedTextFilterConfig(pair=PAIRS)


class TestLeftContext:
    """min_left_context_words."""

    @pytest.mark.parametrize("least", [1, 3, 4])
    def test_so_many_words_stand_before_the_mask(self, least):
        own = creator(min_left_context_words=least)
        frame = own.generate_training_data(format="minimal", min_rows_per_class_for_split=0)
        before = frame["masked"].str.partition("[MASK]")[0].str.count(r"[A-Za-z]+")
        assert before.min() >= least
        everything = creator().generate_training_data(format="minimal")
        usual = everything["masked"].str.partition("[MASK]")[0].str.count(r"[A-Za-z]+")
        assert (usual >= least).sum() >= len(frame) > 0
        assert own.summary().to_dict()["dropped"]["with too few words to the left"] == (usual < least).sum()

    def test_by_default_every_sentence_is_taken_and_nothing_is_counted(self):
        own = creator()
        frame = own.generate_training_data(format="minimal")
        assert frame["masked"].str.startswith("[MASK]").any()
        assert "with too few words to the left" not in own.summary().to_dict()["dropped"]

    def test_a_class_may_ask_for_another_number(self):
        female = FEMALE.reversed("x").reversed("F")
        female.min_left_context_words = 0
        frame = creator(feature_targets=[MALE, female], min_left_context_words=1).generate_training_data(
            format="minimal"
        )
        begins = frame["masked"].str.startswith("[MASK]").groupby(frame["label_class"]).any()
        assert begins.to_dict() == {"M": False, "F": True}

    def test_all_words_of_a_row_are_masked_and_the_first_one_counts(self):
        given = [f"{number} actor met the king." for number in range(12)] + texts()
        frame = creator(given, min_left_context_words=2).generate_training_data(format="minimal")
        assert not frame["masked"].str.contains("met the").any()

    @pytest.mark.parametrize("bad", [-1, 1.5, "2"])
    def test_bad_numbers(self, bad):
        for call in (
            lambda: creator(min_left_context_words=bad),
            lambda: TextFilterConfig("a", min_left_context_words=bad),
        ):
            with pytest.raises((ValueError, TypeError), match="min_left_context_words"):
                call()


class TestWholeWords:
    """split_by_target."""

    @pytest.mark.parametrize("paired", [True, False])
    def test_no_word_and_no_alternative_is_in_two_splits(self, paired):
        plain = [TextFilterConfig(config.words, id=config.id) for config in (MALE, FEMALE)]
        own = creator(feature_targets=[MALE, FEMALE] if paired else plain)
        frame = own.generate_training_data(format="unified", split_by_target=True)
        words = {name: set(own["label"].str.lower()) for name, own in frame.groupby("split")}
        others = {name: set(own["alternative"].str.lower()) for name, own in frame.groupby("split")}
        assert {name: len(own) for name, own in words.items()} == {"train": 6, "validation": 2, "test": 2}
        assert not words["train"] & words["test"]
        assert not words["train"] & words["validation"]
        assert all(others[name] <= words[name] for name in words)

    def test_pairs_stay_together(self):
        frame = creator().generate_training_data(format="minimal", split_by_target=True)
        words = frame.groupby("split")["label"].agg(lambda own: set(own.str.lower()))
        assert all({partner_of(word) for word in own} == own for own in words)

    def test_too_few_words(self):
        few = [TextFilterConfig(["actor", "king"], id="M"), FEMALE.reversed("x").reversed("F")]
        few[1] = TextFilterConfig(few[1].words, id="F")
        with pytest.raises(ValueError, match="'M' has 2 words to divide"):
            creator(feature_targets=few).generate_training_data(split_by_target=True)

    def test_with_documents_it_is_refused(self):
        with pytest.raises(ValueError, match="split_by_target keeps words"):
            creator().generate_training_data(split_by_target=True, split_by_document=True)


class TestEqualWords:
    """balance="strict"."""

    def frequencies(self, **options) -> dict[str, int]:
        given = texts(["actor"], 40) + texts(["king"], 20) + texts(["uncle"], 3) + texts(["queen", "aunt"], 15)
        classes = [TextFilterConfig(["actor", "king", "uncle"], id="M"), TextFilterConfig(["queen", "aunt"], id="F")]
        own = creator(sorted(set(given)), feature_targets=classes)
        frame = own.generate_training_data(
            format="minimal", balance="strict", min_rows_per_class_for_split=1, **options
        )
        return dict(Counter(frame["label"].str.lower()))

    def test_every_word_has_as_many_rows_and_every_class_too(self):
        # three rows of the rarest of three words, so nine rows a class, of which two words have four each
        assert self.frequencies() == {"actor": 3, "king": 3, "uncle": 3, "queen": 4, "aunt": 4}

    def test_rare_words_are_left_out_and_decide_nothing(self):
        assert self.frequencies(min_rows_per_target_for_balance=5) == dict.fromkeys(
            ("actor", "king", "queen", "aunt"), 15
        )

    def test_no_word_is_common_enough(self):
        with pytest.raises(ValueError, match=r"No word of class 'F' .*=16 rows; the most common has 15"):
            self.frequencies(min_rows_per_target_for_balance=16)

    def test_the_minimum_needs_the_balance(self):
        with pytest.raises(ValueError, match='needs balance="strict"'):
            creator().generate_training_data(min_rows_per_target_for_balance=3)


class TestIncompleteClasses:
    """raise_on_incomplete_classes."""

    CLASSES = (MALE, FEMALE, TextFilterConfig(["crowd"], id="P"), TextFilterConfig(["mob"], id="N"))

    def test_they_are_left_out_and_listed_beside_the_table(self, tmp_path, caplog):
        own = creator(texts() + texts(["crowd"], 3), feature_targets=self.CLASSES, output_dir=tmp_path)
        with caplog.at_level(logging.WARNING):
            frames = own.generate_training_data(raise_on_incomplete_classes=False)
        assert list(frames) == ["M", "F"]
        listed = pd.read_csv(tmp_path / "training_incomplete_classes.csv")
        assert dict(zip(listed["label_class"], listed["rows"], strict=True)) == {"P": 3, "N": 0}
        assert "'P' has 3, 'N' has 0" in caplog.text
        assert "P" not in str(own.summary())
        table = pd.read_csv(tmp_path / "training.csv")
        assert set(table["alternative_class"]) == {"M", "F"}
        # the list goes when nothing is missing any more
        full = creator(texts() + texts(["crowd", "mob"]), feature_targets=self.CLASSES, output_dir=tmp_path)
        full.generate_training_data(raise_on_incomplete_classes=False)
        assert [path.name for path in tmp_path.iterdir()] == ["training.csv"]

    def test_by_default_and_with_one_class_left_it_is_an_error(self, tmp_path):
        own = creator(texts(), feature_targets=self.CLASSES)
        with pytest.raises(ValueError, match="No usable sentence for class 'P'"):
            own.generate_training_data()
        alone = creator(texts(["crowd"]), feature_targets=self.CLASSES)
        with pytest.raises(ValueError, match="Fewer than two classes have 10 rows: 'M' has 0"):
            alone.generate_training_data(raise_on_incomplete_classes=False)


class TestWindows:
    """split_to_sentences=n."""

    TEXT = "One came. Two went! Three\nslept. Four?"

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (True, ["One came.", "Two went!", "Three", "slept.", "Four?"]),
            (1, ["One came.", "Two went!", "Three", "slept.", "Four?"]),
            (2, ["One came. Two went!", "Three slept.", "Four?"]),
            (9, ["One came. Two went! Three slept. Four?"]),
        ],
    )
    def test_each_n_sentences_of_a_text_are_a_segment(self, number, expected):
        config = TextPreprocessConfig(split_to_sentences=number)
        assert preprocess_texts([self.TEXT, "Alone."], config) == [*expected, "Alone."]

    @pytest.mark.parametrize("bad", [0, -2, 1.5, "two", None])
    def test_bad_numbers(self, bad):
        with pytest.raises((ValueError, TypeError), match="split_to_sentences"):
            TextPreprocessConfig(split_to_sentences=bad)


class TestCtrlC:
    """A pass over the texts that is stopped."""

    @pytest.fixture(autouse=True)
    def _ctrl_c(self):
        """Where tests run in the background, a shell has switched Ctrl-C off."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def stopping(self, monkeypatch, after: int, number=signal.SIGINT) -> None:
        """Send a signal when so many texts have been read."""
        read = _text_source.stream_texts

        def stream(*args):
            n_texts = 0
            for block in read(*args):
                yield block
                n_texts += len(block.texts)
                if n_texts >= after:
                    os.kill(os.getpid(), number)

        monkeypatch.setattr("gradiend.data.text.prediction.creator.stream_texts", stream)

    def test_what_was_found_is_kept_and_no_later_call_takes_it_for_the_whole(self, monkeypatch, tmp_path, caplog):
        given = texts(number=400)
        whole = creator(given).generate_training_data(format="minimal")
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            self.stopping(patch, 500)
            own = creator(given, output_dir=tmp_path, use_cache=True)
            part = own.generate_training_data(format="minimal")
        assert own.stopped
        assert "Stopped by Ctrl-C: what was found until now is kept" in caplog.text
        assert 100 < len(part) < len(whole)
        assert set(part["split"]) == {"train", "validation", "test"}
        assert len(pd.read_csv(tmp_path / "training.csv")) == len(part)
        again = creator(given, output_dir=tmp_path, use_cache=True)
        assert len(again.generate_training_data(format="minimal")) == len(whole)
        assert not again.stopped

    def test_neutral_texts_too(self, monkeypatch):
        given = [f"Room {number} was empty." for number in range(4_000)]
        self.stopping(monkeypatch, 500)
        own = creator(given)
        assert 0 < len(own.generate_neutral_data()) < 4_000
        assert own.stopped

    def test_before_every_class_has_a_row_it_ends(self, monkeypatch):
        self.stopping(monkeypatch, 1)
        with pytest.raises(Interrupted, match="Too little was found"):
            creator([f"Room {number} was empty." for number in range(400)]).generate_training_data()

    def test_sigterm_ends(self, monkeypatch):
        self.stopping(monkeypatch, 500, signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            creator(texts(number=400)).generate_training_data()

    def test_an_experiment_does_not_go_on_with_a_part(self, monkeypatch):
        self.stopping(monkeypatch, 500)
        with pytest.raises(KeyboardInterrupt):
            rows_from(Corpus(texts(number=400), {"M": MALE.words, "F": FEMALE.words}))


class TestNeutralTexts:
    """eval_neutral_additional_excluded_words."""

    TEXTS = ("The nurse slept.", "Nursing is hard.", "A NURSE and a cat.", "A dog ran.")

    def trainer(self, **options):
        return TextPredictionTrainer(
            "unused", config=TextPredictionConfig(eval_neutral_data=pd.DataFrame({"text": self.TEXTS}), **options)
        )

    def test_texts_with_the_words_are_left_out(self):
        own = self.trainer(eval_neutral_additional_excluded_words=["nurse"])
        assert own.neutral_data["text"].tolist() == ["Nursing is hard.", "A dog ran."]
        assert len(self.trainer().neutral_data) == 4

    def test_no_text_is_left(self):
        own = self.trainer(eval_neutral_additional_excluded_words=["nurse", "nursing", "dog"])
        with pytest.raises(ValueError, match="Each of the 4 neutral texts"):
            _ = own.neutral_data
        with pytest.raises(TypeError, match="eval_neutral_additional_excluded_words"):
            self.trainer(eval_neutral_additional_excluded_words=3)


def test_the_creator_has_a_second_name():
    assert DataCreator is TextPredictionDataCreator is gradiend.data.DataCreator


def test_an_experiment_takes_the_new_options():
    corpus = Corpus(
        texts(),
        {"M": MALE.words, "F": FEMALE.words},
        min_left_context_words=2,
        split_by_target=True,
        neutral_max_size=0,
    )
    frames, _ = rows_from(corpus)
    before = pd.concat(frames.values())["masked"].str.partition("[MASK]")[0].str.count(r"[A-Za-z]+")
    assert before.min() >= 2
    train, test = (
        {word for frame in frames.values() for word in frame.loc[frame["split"] == split, "label"].str.lower()}
        for split in ("train", "test")
    )
    assert train
    assert test
    assert not train & test
