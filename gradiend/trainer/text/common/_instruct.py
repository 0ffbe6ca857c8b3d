"""Texts inside the chat prompt of an instruction-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError

INSTRUCTION = "Continue the user's text: answer with the next word alone, without punctuation, quotes or comments."

MARK = "TEXT0GOES1HERE"
"""A text that no chat template contains."""


class InstructTokenizerWrapper:
    """A tokenizer that puts every text into a chat prompt, as the user's turn after an instruction to continue it.

    The tokenizer's own chat template is used; a tokenizer without template gets the headers of Llama 3. Words are
    scored where they stand in the text: the beginnings of the template and of the text come before a word, and no token
    of the template is ever scored.

    Args:
        tokenizer: The tokenizer of an instruction-tuned causal model.
        user_prompt_header: Role of the text.
        assistant_prompt_header: Role of the answer.
    """

    def __init__(
        self, tokenizer: Any, user_prompt_header: str = "user", assistant_prompt_header: str = "assistant"
    ) -> None:
        self.tokenizer = tokenizer
        self.user_prompt_header = user_prompt_header
        self.assistant_prompt_header = assistant_prompt_header

    def __getattr__(self, name: str) -> Any:
        if name == "tokenizer":
            raise AttributeError(name)
        return getattr(self.tokenizer, name)

    def prompt(self, text: str) -> str:
        """The whole prompt for one text."""
        messages = [("system", INSTRUCTION), (self.user_prompt_header, text)]
        if self.tokenizer.chat_template is not None:
            try:
                return self._templated(messages)
            except TemplateError:
                # Some templates (Gemma) have no system role.
                return self._templated([(self.user_prompt_header, f"{INSTRUCTION}\n\n{text}")])
        asked = "".join(f"{self._header(role)}{content}<|eot_id|>" for role, content in messages)
        return f"<|begin_of_text|>{asked}{self._header(self.assistant_prompt_header)}"

    def _templated(self, messages: Sequence[tuple[str, str]]) -> str:
        chat = [{"role": role, "content": content} for role, content in messages]
        return self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    @staticmethod
    def _header(role: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n"

    def __call__(self, text: str | Sequence[str], **kwargs: Any) -> Any:
        """Tokenize the prompt of one text or several; arguments are those of the tokenizer.

        Offsets, if they are asked for, refer to the text; the tokens of the template count as special tokens with the
        offsets (0, 0).

        Raises:
            ValueError: A chat template that changes the text by more than the spaces around it.
        """
        texts = [text] if isinstance(text, str) else list(text)
        prompts = [self.prompt(one) for one in texts]
        # The prompt holds its special tokens already.
        encoded = self.tokenizer(
            prompts[0] if isinstance(text, str) else prompts, **{**kwargs, "add_special_tokens": False}
        )
        asked = [name for name in ("offset_mapping", "special_tokens_mask") if name in encoded]
        if not asked:
            return encoded
        head, _, tail = self.prompt(MARK).rpartition(MARK)
        triples = zip(encoded.encodings, prompts, texts, strict=True)
        rows = [self._in_text(encoding, prompt, one, head, tail) for encoding, prompt, one in triples]
        for name in asked:
            column = [row[name] for row in rows]
            given = encoded[name]
            values: Any = column[0] if isinstance(text, str) and isinstance(given, list) else column
            encoded[name] = torch.tensor(values) if isinstance(given, torch.Tensor) else values
        return encoded

    def __len__(self) -> int:
        """The length of the tokenizer."""
        return len(self.tokenizer)

    @staticmethod
    def _in_text(encoding: Any, prompt: str, text: str, head: str, tail: str) -> dict[str, list[Any]]:
        """The offsets and special tokens of one prompt, expressed for the text between its head and its tail."""
        inside = prompt[len(head) : len(prompt) - len(tail)]
        # Templates strip spaces around the text.
        lead = text.find(inside)
        if not (prompt.startswith(head) and prompt.endswith(tail)) or lead < 0:
            raise ValueError(
                f"The chat template makes {inside[:60]!r} of the text {text[:60]!r}: "
                "its words cannot be found again. Use a template that leaves texts as they are."
            )
        begin, end = len(head), len(head) + len(inside)
        offsets, special = [], []
        for (first, last), own in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
            is_text = first < end and last > begin and first < last
            place = (max(first, begin) - begin + lead, min(last, end) - begin + lead)
            offsets.append(place if is_text else (0, 0))
            special.append(own if is_text else 1)
        return {"offset_mapping": offsets, "special_tokens_mask": special}

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """The tokens of the prompt."""
        return self.tokenizer.tokenize(self.prompt(text), **kwargs)
