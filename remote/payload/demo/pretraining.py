"""A small Mistral trained from nothing, over the tokens of its corpus alone, and then widened to
the whole vocabulary.

Nine tenths of the arithmetic of a model this small is the softmax over 32,768 tokens, most of which
the corpus never uses. The model is therefore trained on the corpus's own tokens and one more that
stands for all others, which share one row of the output layer. Widening copies that row to each of
them: the same probabilities as if the whole vocabulary had been trained with that row tied.
"""

import math
from dataclasses import dataclass
from typing import Any

from remote.payload.demo.copying import write_copying
from remote.payload.demo.corpus import Vocabulary
from remote.payload.training.schedule import learning_rate

WEIGHT_DECAY, BETAS, CLIP = 0.05, (0.9, 0.95), 1.0
INITIAL_SPREAD = 0.05
"""Standard deviation of the initial weights: at a width of 256 the usual 0.02 costs hundreds of
steps."""

UNSEEN_SPREAD = 0.02
"""Output rows of tokens never seen differ by so much: enough for fine-tuning to tell them apart,
too little to change what is said."""

CONTEXT = 1024


@dataclass(frozen=True)
class Shape:
    """The recipe's `pretraining`: sizes of the model, and how it is trained. `length` in tokens,
    `warmup` below 1 a share of the steps."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    steps: int
    batch: int
    length: int
    learning_rate: float
    rope_theta: float = 1_000_000.0
    warmup: float = 0.03
    seed: int = 42


def new_model(shape: Shape, vocabulary_size: int, tokenizer: Any = None) -> Any:
    """A MistralForCausalLM with random weights; with the tokenizer's special tokens where one is
    given."""
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        max_position_embeddings=CONTEXT,
        sliding_window=None,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        initializer_range=INITIAL_SPREAD,
        bos_token_id=tokenizer.bos_token_id if tokenizer else None,
        eos_token_id=tokenizer.eos_token_id if tokenizer else None,
        pad_token_id=tokenizer.pad_token_id if tokenizer else None,
    )
    return MistralForCausalLM(config)


class Pretrainer:
    """Model, optimiser and rows of one pre-training. `step` is the number of steps done."""

    def __init__(self, shape: Shape, vocabulary: Vocabulary, rows: list[list[int]]) -> None:
        import torch

        torch.manual_seed(shape.seed)
        self.shape, self.vocabulary, self.step = shape, vocabulary, 0
        self.rows = torch.tensor(rows)
        self.model = new_model(shape, vocabulary.size)
        write_copying(self.model)
        self.model.train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        # The last output stands for many tokens at once: its share of the softmax counts that
        # often.
        self.weights = torch.zeros(vocabulary.size)
        self.weights[-1] = math.log(max(1, vocabulary.others))

    def advance(self) -> tuple[float, float]:
        """One step of the optimiser; returns the loss before it, in nats a token, and the learning
        rate."""
        import torch

        shape = self.shape
        rate = learning_rate(
            self.step + 1, shape.steps, shape.learning_rate, shape.warmup, "cosine"
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.rows[self.step * shape.batch : (self.step + 1) * shape.batch]
        logits = self.model(input_ids=batch[:, :-1]).logits + self.weights
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return float(loss.detach()), rate

    def tensors(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that a checkpoint keeps: the weights, and the optimiser's two moments for each."""
        weights = dict(self.model.named_parameters())
        moments = {
            f"{kind}.{name}": self.optimizer.state[weight][kind]
            for name, weight in weights.items()
            for kind in ("exp_avg", "exp_avg_sq")
            if weight in self.optimizer.state
        }
        return weights, moments

    def restore(self, step: int, weights: dict[str, Any], moments: dict[str, Any]) -> None:
        """Stand where a checkpoint of `step` steps was made."""
        import torch

        self.step = step
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(weights[name])
                kinds = {kind: moments[f"{kind}.{name}"] for kind in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[weight] = {"step": torch.tensor(float(step)), **kinds}


def widened(trained: Any, shape: Shape, vocabulary: Vocabulary, tokenizer: Any) -> Any:
    """The trained model over the whole vocabulary, in bfloat16."""
    import torch

    torch.manual_seed(shape.seed + 1)
    model = new_model(shape, vocabulary.total, tokenizer)
    known = trained.state_dict()
    with torch.no_grad():
        # Tokens never seen look like the average token, each with a little of its own.
        seen = known["model.embed_tokens.weight"][:-1]
        known["model.embed_tokens.weight"] = seen.mean(dim=0) + INITIAL_SPREAD * torch.randn(
            vocabulary.total, shape.hidden_size
        )
        known["model.embed_tokens.weight"][vocabulary.tokens] = seen
        head = known["lm_head.weight"]
        known["lm_head.weight"] = head[-1] + UNSEEN_SPREAD * torch.randn(
            vocabulary.total, shape.hidden_size
        )
        known["lm_head.weight"][vocabulary.tokens] = head[:-1]
    model.load_state_dict(known)
    return model.to(torch.bfloat16)
