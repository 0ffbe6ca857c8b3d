"""A wrapped tokenizer scores the words of the text, never pieces of the chat template around it."""

import pytest
import tiny
import torch

from gradiend import ModelWithGradiend
from gradiend.data._summary import tokens_of_word
from gradiend.evaluator._language_score import tokenize_texts
from gradiend.gradients import TokenizedWord
from gradiend.objectives import objective_of
from gradiend.trainer.text import InstructTokenizerWrapper, TextPredictionModelWithGradiend

OWN = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}<answer>"
WITHOUT_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}" + OWN
TEMPLATES = {"llama 3 headers": None, "own": OWN, "no system role": WITHOUT_SYSTEM}
KINDS = {"bert": "gardener", "roberta": "walker", "gpt2": "walker", "llama": "walker"}
TEXT = "the old nurse saw the river and then [MASK] sold the lamp."


def tokenizer_of(name, template):
    tokenizer = tiny.FAMILIES[name].tokenizer()
    tokenizer.model_max_length = 1000
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize(("name", "long_word"), KINDS.items())
def test_the_word_is_scored_in_a_hand_made_prompt(name, long_word, template):
    family, tokenizer = tiny.FAMILIES[name], tokenizer_of(name, template)
    base = family.build(max_position_embeddings=700)
    wrapper = InstructTokenizerWrapper(tokenizer)
    words = objective_of(base, wrapper, max_length=600)
    for word in ("he", long_word):
        [found] = words.tokenize([TEXT], [word])
        # By hand: the prompt with the word in it, tokenized as any text.
        prompt = wrapper.prompt(TEXT.replace("[MASK]", word))
        encoded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        begin = prompt.index("and then ") + len("and then ")
        inside = [
            i for i, (first, last) in enumerate(encoded["offset_mapping"]) if first < begin + len(word) and last > begin
        ]
        tokens = tuple(encoded["input_ids"][i] for i in inside)
        assert "".join(tokenizer.convert_ids_to_tokens(tokens)).translate({ord(mark): "" for mark in "#▁Ġ"}) == word
        assert len(tokens) > 1 or word == "he"
        ids = list(encoded["input_ids"])
        if family.causal:
            expected = TokenizedWord(tuple(ids[: inside[-1]]), tuple(i - 1 for i in inside), tokens)
        else:
            for i in inside:
                ids[i] = tokenizer.mask_token_id
            expected = TokenizedWord(tuple(ids), tuple(inside), tokens)
        assert found == expected


def test_gradients_equal_those_of_a_hand_made_prompt():
    for name in ("bert", "gpt2"):
        family, tokenizer = tiny.FAMILIES[name], tokenizer_of(name, "{{ messages[1].content }} ! ? !")
        base = family.build()
        mg = TextPredictionModelWithGradiend.from_pretrained(base, tokenizer=InstructTokenizerWrapper(tokenizer))
        [ids] = tokenizer([TEXT.replace("[MASK]", "he") + " ! ? !"], add_special_tokens=False)["input_ids"]
        place = ids.index(tokenizer("the he", add_special_tokens=False)["input_ids"][-1])
        assert tokenizer.convert_ids_to_tokens(ids[place]) in ("he", "Ġhe")
        token = ids[place]
        word = TokenizedWord(tuple(ids[:place]), (place - 1,), (token,))
        if not family.causal:
            ids[place] = tokenizer.mask_token_id
            word = TokenizedWord(tuple(ids), (place,), (token,))
        expected = tiny.naive_gradient(base, mg.gradiend.mapping, lambda m=base, w=word: tiny.naive_loss(m, w))
        assert tiny.distance(mg.create_gradients(TEXT, "he"), expected) <= 1e-5


def test_nothing_of_the_template_is_scored_elsewhere():
    tokenizer = tokenizer_of("bert", None)
    wrapper = InstructTokenizerWrapper(tokenizer)
    words = objective_of(tiny.bert(), wrapper, max_length=64)
    words.max_length = 600
    [(ids, free)] = tokenize_texts(["the old nurse saw he"], words, ["he"])
    assert tokenizer.convert_ids_to_tokens([ids[i] for i in free]) == ["the", "old", "nurse", "saw"]
    assert tokens_of_word(wrapper, TEXT, "gardener") == (("gar", "den", "er"), False)
    assert len(wrapper) == len(tokenizer)


def test_offsets_of_one_text_of_several_and_as_tensors():
    tokenizer = tokenizer_of("bert", OWN)
    wrapper = InstructTokenizerWrapper(tokenizer)
    text = " the old nurse "
    one = wrapper(text, return_offsets_mapping=True)
    several = wrapper([text, "she"], return_offsets_mapping=True)
    assert one["offset_mapping"] == several["offset_mapping"][0]
    assert [text[a:b] for a, b in one["offset_mapping"] if b] == ["the", "old", "nurse"]
    tensors = wrapper([text], return_offsets_mapping=True, return_tensors="pt")
    assert torch.equal(tensors["offset_mapping"][0], torch.tensor(one["offset_mapping"]))


def test_a_template_that_changes_texts_is_refused():
    wrapper = InstructTokenizerWrapper(tokenizer_of("bert", "{{ messages[1].content | upper }}"))
    with pytest.raises(ValueError, match="chat template makes"):
        wrapper(["the old nurse"], return_offsets_mapping=True)


def test_a_prompt_that_leaves_no_room_for_the_text_says_so():
    base, tokenizer = tiny.FAMILIES["llama"].build(), tiny.llama_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }} {{ messages[1].content }} ."
    with pytest.raises(ValueError, match=r"a chat prompt\) leave no room for the text.*model_max_length"):
        ModelWithGradiend.from_pretrained(base, tokenizer=InstructTokenizerWrapper(tokenizer))
