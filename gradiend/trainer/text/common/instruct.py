"""Texts as a chat model wants to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

INSTRUCTION = "Continue the user's text: answer with the next word alone, without punctuation, quotes or comments."


class InstructTokenizerWrapper:
    """A tokenizer that puts every text into a chat prompt whose answer is the text's next word.

    The tokenizer's own chat template is used; one without gets the headers of Llama 3.

    Args:
        tokenizer: Of an instruction-tuned causal model.
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
            return self.tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in messages],
                tokenize=False,
                add_generation_prompt=True,
            )
        asked = "".join(f"{self._header(role)}{content}<|eot_id|>" for role, content in messages)
        return f"<|begin_of_text|>{asked}{self._header(self.assistant_prompt_header)}"

    @staticmethod
    def _header(role: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n"

    def __call__(self, text: str | Sequence[str], **kwargs: Any) -> Any:
        """Tokenize the prompt of one text or several; arguments are those of the tokenizer."""
        prompts = self.prompt(text) if isinstance(text, str) else [self.prompt(one) for one in text]
        # The prompt has its special tokens already.
        return self.tokenizer(prompts, **{"add_special_tokens": False, **kwargs})

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """The tokens of the prompt."""
        return self.tokenizer.tokenize(self.prompt(text), **kwargs)

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """As the tokenizer's."""
        return self.tokenizer.convert_tokens_to_ids(tokens)

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """As the tokenizer's."""
        return self.tokenizer.convert_ids_to_tokens(ids, skip_special_tokens=skip_special_tokens)

    def decode(self, token_ids: Any, **kwargs: Any) -> str:
        """As the tokenizer's."""
        return self.tokenizer.decode(token_ids, **kwargs)
