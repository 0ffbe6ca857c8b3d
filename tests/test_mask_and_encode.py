"""Random words of a text, masked and encoded."""

from __future__ import annotations

import pytest
import torch
from tiny import FAMILIES, naive_gradient

from gradiend.trainer.text import TextPredictionModelWithGradiend

TEXT = "The old baker saw the sailor near the river, then she was very tired."
KINDS = ["bert", "roberta", "gpt2", "llama"]


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    family = FAMILIES[request.param]
    torch.manual_seed(1)
    return TextPredictionModelWithGradiend.from_pretrained(
        family.build().eval(), tokenizer=family.tokenizer(), device="cpu"
    )


def test_one_word_is_encoded_as_the_text_masked_there(model):
    drawn = set()
    for seed in range(8):
        torch.manual_seed(seed)
        encoding, masked, [word] = model.mask_and_encode(TEXT, return_masked_text=True)
        assert masked.replace("[MASK]", word) == TEXT
        assert encoding == pytest.approx(model.encode(masked, label=word, return_float=True), abs=1e-7)
        torch.manual_seed(seed)
        assert model.mask_and_encode(TEXT) == encoding
        drawn.add(masked)
    assert len(drawn) > 2


def test_several_words_give_the_gradient_of_their_mean_loss(model):
    torch.manual_seed(3)
    encoding, masked, words = model.mask_and_encode(TEXT, return_masked_text=True, single_mask=False)
    pieces = masked.split("[MASK]")
    assert "".join(a + b for a, b in zip(pieces, [*words, ""], strict=True)) == TEXT
    assert len(words) == round(0.15 * 14)
    marked, before = model.tokenizer.mask_token, ""
    losses = []
    for number, word in enumerate(words):
        before += pieces[number]
        rest = marked.join(pieces[number + 1 :]) if marked else "."
        # A masked model reads the others masked, a causal one unmasked.
        shown = marked.join(pieces[: number + 1]) if marked else before
        losses.append((shown, word, rest))
        before += word

    def mean_loss():
        return sum(masked_loss(model, *loss) for loss in losses) / len(losses)

    gradient = naive_gradient(model.base_model, model.gradiend.mapping, mean_loss)
    assert encoding == pytest.approx(model.encode(gradient, return_float=True), abs=1e-6)


def masked_loss(model, before, word, after):
    """−log p(word) between two pieces of text, from a forward pass of its own."""
    encoded = model.tokenizer(before + word + after, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]])
    spans = encoded["offset_mapping"]
    inside = [i for i, (a, b) in enumerate(spans) if a < len(before) + len(word) and b > len(before) and a < b]
    tokens = ids[0, inside]
    if model.is_decoder_only_model:
        places = torch.tensor(inside) - 1
    else:
        ids[0, inside] = model.tokenizer.mask_token_id
        places = torch.tensor(inside)
    log_probs = model.base_model(input_ids=ids).logits[0].log_softmax(-1)
    return -log_probs[places, tokens].sum()


def test_ignored_words_are_never_masked_in_any_case(model):
    # Words by name, and one by the id of its token.
    [she] = model.create_inputs("was [MASK]", "she")["labels"].unique().tolist()[1:]
    ignored = ["the", "old", "baker", "saw", "sailor", "near", "river", "THEN", she, "was"]
    for single in (True, False):
        for _ in range(4):
            _, _, words = model.mask_and_encode(TEXT, ignored, return_masked_text=True, single_mask=single)
            assert set(words) <= {"very", "tired"}


def test_topk_encodes_only_the_most_important_entries(model):
    def encoded(**options):
        torch.manual_seed(5)
        return model.mask_and_encode(TEXT, return_masked_text=True, **options)

    everything, masked, [word] = encoded()
    gradient = model.create_gradients(masked, word)
    for options, part in (({}, "encoder-weight"), ({"topk_part": "decoder-weight"}, "decoder-weight")):
        kept = model.get_enhancer_mask(0.3, part)
        found = encoded(topk=0.3, **options)[0]
        assert found == pytest.approx(model.encode(gradient * kept, return_float=True), abs=1e-7)
        assert abs(found - everything) > 1e-5
    assert encoded(topk=1.0)[0] == pytest.approx(everything, abs=1e-7)


def test_a_long_text_is_cut_where_several_words_are_masked(model):
    torch.manual_seed(2)
    encoding, masked, words = model.mask_and_encode(TEXT * 30, return_masked_text=True, single_mask=False)
    assert len(words) > 2
    for word in words:
        masked = masked.replace("[MASK]", word, 1)
    assert (TEXT * 30).startswith(masked)
    assert len(model.tokenizer(masked)["input_ids"]) == model.objective.max_length
    torch.manual_seed(2)
    assert model.mask_and_encode(masked, single_mask=False) == pytest.approx(encoding, abs=1e-7)


def test_words_that_the_tokenizer_does_not_know_are_not_masked():
    family = FAMILIES["bert"]
    model = TextPredictionModelWithGradiend.from_pretrained(
        family.build().eval(), tokenizer=family.tokenizer(), device="cpu"
    )
    for _ in range(5):
        assert model.mask_and_encode("Zzyx zzyx river zzyx.", return_masked_text=True)[2] == ["river"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": ""}, ValueError, "No word of ''"),
        ({"text": [TEXT]}, TypeError, "Call it once for each text"),
        ({"text": "the [MASK] saw"}, ValueError, "encode"),
        ({"text": "the cat", "ignore_tokens": ["The", "cat"]}, ValueError, "ignore_tokens names all"),
        ({"text": TEXT, "ignore_tokens": True}, TypeError, "list of words"),
        ({"text": TEXT, "ignore_tokens": "she"}, TypeError, "list of words"),
        ({"text": TEXT, "topk": 1.5}, ValueError, "topk"),
        ({"text": TEXT, "topk": 5, "topk_part": "decoder"}, ValueError, "part"),
    ],
)
def test_bad_inputs_say_what_was_expected(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.mask_and_encode(**arguments)


FACTUAL = "The old baker was near the river and then [MASK] saw the lamp."
OTHER = "The nurse was very tired, and [MASK] was old."


def reading(model, source, latent_dim=1):
    torch.manual_seed(2)
    return TextPredictionModelWithGradiend.from_pretrained(
        model.base_model, tokenizer=model.tokenizer, source=source, latent_dim=latent_dim, device="cpu"
    )


@pytest.mark.parametrize("source", ["factual", "alternative", "diff"])
def test_encode_reads_the_words_as_the_source_says(model, source):
    reader = reading(model, source)

    def by_gradients(text, factual, alternative):
        g_f, g_a = reader.create_gradients(text, factual), reader.create_gradients(text, alternative)
        gradient = {"factual": g_f, "alternative": g_a, "diff": g_f - g_a}[source]
        return reader.encode(gradient, return_float=True)

    one = reader.encode(FACTUAL, factual="he", alternative="they", return_float=True)
    assert isinstance(one, float)
    assert one == pytest.approx(by_gradients(FACTUAL, "he", "they"), abs=1e-5)
    assert reader.encode(FACTUAL, factual="he", alternative="they").shape == (1,)
    several = reader.encode([FACTUAL, OTHER], factual=["he", "she"], alternative="they", return_float=True)
    assert several == pytest.approx([one, by_gradients(OTHER, "she", "they")], abs=1e-5)
    assert reader.encode([FACTUAL, OTHER], factual="he", alternative="they").shape == (2, 1)
    if source != "diff":
        assert reader.encode(FACTUAL, **{source: "he"}, return_float=True) == pytest.approx(
            reader.encode(FACTUAL, "he", return_float=True), abs=1e-5
        )


def test_encode_with_words_says_what_is_missing(model):
    for source, given, missing in [
        ("factual", {"alternative": "he"}, "factual=…"),
        ("alternative", {"factual": "he"}, "alternative=…"),
        ("diff", {"factual": "he"}, "alternative=…"),
    ]:
        with pytest.raises(TypeError, match=f"reads source='{source}': encode needs {missing}"):
            reading(model, source).encode(FACTUAL, **given)
    reader = reading(model, "diff")
    with pytest.raises(TypeError, match="label and factual or alternative"):
        reader.encode(FACTUAL, "he", factual="he", alternative="they")
    with pytest.raises(ValueError, match="factual has 1 words for 2 texts"):
        reader.encode([FACTUAL, OTHER], factual=["he"], alternative="they")
    for words in (5, [5], [None]):
        with pytest.raises(TypeError, match="factual must be a list of strings"):
            reader.encode([FACTUAL], factual=words, alternative="they")
    with pytest.raises(TypeError, match="factual is a set, which has no order"):
        reader.encode([FACTUAL], factual={"he"}, alternative="they")
    with pytest.raises(AssertionError, match="A raw input needs"):
        reader.encode(FACTUAL)
    two = reading(model, "diff", latent_dim=2)
    assert two.encode([FACTUAL], factual="he", alternative="they").shape == (1, 2)
    with pytest.raises(ValueError, match=r"return_float needs one gradient; got gradients of shape \(2, \d+\)"):
        reader.encode(torch.zeros(2, len(reader)), return_float=True)
    with pytest.raises(ValueError, match="return_float needs one latent"):
        two.encode(FACTUAL, factual="he", alternative="they", return_float=True)
