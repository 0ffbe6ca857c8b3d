"""What belongs to the caller is as it was after every public call, also one that ends in an error; and whole runs under
deterministic algorithms give the same numbers."""

import contextlib
import gc
import weakref

import pytest
import tiny
import tiny_data
import torch

from gradiend import ModelWithGradiend, PostPruneConfig, PrePruneConfig
from gradiend.model._delta import apply_delta
from gradiend.model._parameter_map import MappedParameter
from gradiend.trainer.text import InstructTokenizerWrapper, create_masked_pair_from_text
from gradiend.trainer.text.common.lm_eval import evaluate_clm, evaluate_clm_perplexity, evaluate_mlm

TEXT = "the old baker was near the house and then [MASK] saw the bread ."
TEXTS = ["the old baker was near the house and then", "the new nurse was near the river and then it"]
CAUSAL_WORDS = {"SG": ("he", "she"), "PL": ("they",)}


def snapshot(model, tokenizer):
    """Everything of a model and a tokenizer that a call could change, in a form that can be compared."""
    backend = tokenizer.backend_tokenizer
    return {
        "tokenizer": {
            name: getattr(tokenizer, name) for name in ("padding_side", "truncation_side", "model_max_length")
        },
        "special": dict(tokenizer.special_tokens_map),
        "init": {key: str(value) for key, value in tokenizer.init_kwargs.items()},
        "backend": (backend.truncation, backend.padding, backend.to_str()),
        "training": [part.training for part in model.modules()],
        "required": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [id(parameter.grad) for parameter in model.parameters()],
        "weights": [parameter.detach().clone().numpy().tobytes() for parameter in model.parameters()],
        "identity": [id(parameter) for parameter in model.parameters()],
        "hooks": [
            [list(vars(part)[kind]) for kind in sorted(vars(part)) if kind.endswith("_hooks")]
            for part in model.modules()
        ],
        "own": [sorted(name for name in vars(part) if name != "training") for part in model.modules()],
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
        "generation": getattr(vars(model).get("generation_config"), "to_dict", dict)(),
        "torch": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
    }


def callers(name):
    """A model and tokenizer with settings of the caller's own."""
    family = tiny.FAMILIES[name]
    model, tokenizer = family.build(), family.tokenizer()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer.backend_tokenizer.enable_truncation(7, direction="left")
    tokenizer.backend_tokenizer.enable_padding(pad_id=1, pad_token="[UNK]", length=9)
    model.eval()
    model.get_input_embeddings().train()
    first, *_, last = model.parameters()
    last.requires_grad_(False)
    first.grad = torch.ones_like(first)
    model.get_input_embeddings().register_forward_hook(lambda *arguments: None)
    model.config.use_cache = True
    return model, tokenizer


def calls(model, tokenizer, directory):
    """Name → a public call, to be made in this order."""
    known = {}
    rows = tiny_data.rows()
    args = {"experiment_dir": str(directory), "pre_prune_config": PrePruneConfig(n_samples=4, topk=0.5)}

    def load(**settings):
        known["mg"] = ModelWithGradiend.from_pretrained(model, tokenizer=tokenizer, **settings)

    def trainer():
        known["trainer"] = tiny_data.trainer(known["mg"], args, data=rows)
        return known["trainer"]

    yield "from_pretrained", load
    yield "encode", lambda: known["mg"].encode(TEXT, label="he")
    yield "mask_and_encode", lambda: known["mg"].mask_and_encode(TEXTS[0], single_mask=False)
    yield "create_gradients", lambda: known["mg"].create_gradients(TEXT, "he")
    yield "rewrite_base_model", lambda: known["mg"].rewrite_base_model(1.0, 1.0)
    yield "export_delta", lambda: known.update(delta=known["mg"].export_delta(str(directory / "delta"), 1.0, 1.0))

    def deltas():
        with apply_delta(model, known["delta"], strength=0.5):
            pass

    yield "apply_delta", deltas
    yield "save", lambda: known["mg"].save_pretrained(str(directory / "saved"))
    yield "train", lambda: trainer().train()
    yield "evaluate_encoder", known["trainer"].evaluate_encoder
    yield "evaluate_decoder", lambda: known.update(found=known["trainer"].evaluate_decoder(lrs=[1.0, 10.0]))
    yield "evaluate_base_model", lambda: known["trainer"].evaluate_base_model(model, tokenizer)
    yield "rewrite", lambda: known["mg"].rewrite_base_model(5.0, -1.0).save_pretrained(directory / "rewritten")
    yield "pair", lambda: create_masked_pair_from_text(TEXTS[0], tokenizer, True, min_prefix_tokens=1)
    if known["mg"].is_decoder_only_model:
        yield "evaluate_clm", lambda: evaluate_clm(model, tokenizer, TEXTS)
        yield "perplexity", lambda: evaluate_clm_perplexity(model, tokenizer, TEXTS)
        head = directory / "head"
        yield "head", lambda: known["trainer"].train_decoder_only_mlm_head(known["mg"], output=str(head), epochs=1)
    else:
        yield "evaluate_mlm", lambda: evaluate_mlm(model, tokenizer, TEXTS)


def compare(before, after, call):
    for what in before:
        assert after[what] == before[what], f"{call} changed {what}"


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_every_call_leaves_model_and_tokenizer_as_they_were(name, tmp_path):
    model, tokenizer = callers(name)
    before = snapshot(model, tokenizer)
    for call, run in calls(model, tokenizer, tmp_path):
        run()
        compare(before, snapshot(model, tokenizer), call)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("bert", KeyboardInterrupt),
        ("gpt2", RuntimeError),
        pytest.param("bert", RuntimeError, marks=pytest.mark.slow),
        pytest.param("gpt2", KeyboardInterrupt, marks=pytest.mark.slow),
    ],
)
def test_also_where_a_call_ends_in_the_middle(name, error, tmp_path):
    """The model's own code raises, once in the first pass of a call and once in its third."""
    model, tokenizer = callers(name)
    counter = {"left": -1}

    def raise_sometimes(*arguments):
        del arguments
        counter["left"] -= 1
        if counter["left"] == 0:
            raise error

    last = next(reversed([part for part in model.modules() if isinstance(part, torch.nn.LayerNorm)]))
    last.register_forward_hook(raise_sometimes)
    before = snapshot(model, tokenizer)
    ended = 0
    for call, run in calls(model, tokenizer, tmp_path):
        for passes in (1, 3):
            counter["left"] = passes
            with contextlib.suppress(error):
                run()
            ended += counter["left"] <= 0
            compare(before, snapshot(model, tokenizer), f"{call}, ended in pass {passes},")
        counter["left"] = -1
        run()
    assert ended >= 10


def test_a_wrapped_tokenizer_is_left_as_it_was(tmp_path):
    model, tokenizer = callers("gpt2")
    tokenizer.chat_template = "{{ messages[1].content }}"
    before = snapshot(model, tokenizer)
    mg = ModelWithGradiend.from_pretrained(model, tokenizer=InstructTokenizerWrapper(tokenizer))
    mg.encode(TEXT, label="he")
    compare(before, snapshot(model, tokenizer), "encode")


# Deterministic algorithms


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def whole_run(directory, base):
    """A training with pruning before and after, both evaluations, a rewrite and a delta: their numbers."""
    args = {
        "experiment_dir": str(directory),
        "pre_prune_config": PrePruneConfig(n_samples=8, topk=0.05),
        "post_prune_config": PostPruneConfig(topk=0.5),
        "seed": 0,
    }
    trainer = tiny_data.trainer(base, args)
    trainer.train()
    encoder = trainer.evaluate_encoder(return_df=True)
    decoder = trainer.evaluate_decoder(lrs=[1.0, 10.0])
    model = trainer.get_model()
    assert {"indices"} & {entry.representation for entry in model.gradiend.mapping}
    rewritten = model.rewrite_base_model(10.0, -1.0)
    delta = model.export_delta(str(directory / "delta"), 10.0, -1.0)
    with apply_delta(model.base_model, delta):
        applied = [parameter.detach().clone() for parameter in model.base_model.parameters()]
    undone = [parameter.detach().clone() for parameter in model.base_model.parameters()]
    grid = {key: (entry["lms"], entry["probs_by_dataset"]) for key, entry in decoder["grid"].items()}
    weights = [parameter.detach() for parameter in rewritten.parameters()]
    return encoder["correlation"], grid, [*weights, *applied, *undone]


def test_a_whole_run_under_deterministic_algorithms_gives_the_same_numbers(tmp_path, request):
    base = tiny_data.save_bert(tmp_path / "base")
    usual = whole_run(tmp_path / "usual", base)
    request.getfixturevalue("deterministic")
    strict = whole_run(tmp_path / "strict", base)
    assert usual[:2] == strict[:2]
    assert all(map(torch.equal, usual[2], strict[2]))


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided"])
@pytest.mark.parametrize("kind", ["all", "mask", "indices"])
def test_entries_are_put_where_they_were_taken_from(layout, kind, deterministic):
    del deterministic
    tensor = {
        "contiguous": torch.zeros(3, 4, 2), "transposed": torch.zeros(4, 3, 2).transpose(0, 1),
        "strided": torch.zeros(3, 8, 2)[:, ::2],
    }[layout]  # fmt: skip
    selection = {
        "all": None, "mask": torch.arange(24) % 3 == 1, "indices": torch.tensor([5, 2, 23, 0], dtype=torch.int32)
    }[kind]  # fmt: skip
    entry = MappedParameter("w", (3, 4, 2), selection)
    values = torch.arange(1.0, entry.num_selected + 1)
    entry.put(tensor, values)
    assert torch.equal(entry.gather(tensor), values)
    assert int(tensor.count_nonzero()) == entry.num_selected


def test_a_trainer_that_is_let_go_takes_its_model_with_it_at_once(tmp_path):
    trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path), {"do_eval": False, "max_seeds": 1}).train()
    model = weakref.ref(trainer.get_model())
    gc.collect()
    gc.disable()
    try:
        del trainer
        assert model() is None
    finally:
        gc.enable()
