"""A throw-away Mistral with the real v3 tokenizer, and LoRA adapters on it: real files for the
export, random weights."""

import json
from pathlib import Path

BYTES = slice(771, 1027)
"""The ids of <0x00> to <0xFF> in the v3 vocabulary."""
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def save_base(
    folder: Path,
    *,
    hidden: int = 256,
    layers: int = 2,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
    tied: bool = False,
    bytes_favoured: float = 1.0,
) -> Path:
    """A random Mistral of `hidden` columns in `folder`, sharded when `max_shard_size` is small.

    With `bytes_favoured` above one it likes to say bytes, as a model does that writes characters
    which its vocabulary lacks.
    """
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from remote.payload.demo import tokenizer

    torch.manual_seed(7)
    config = MistralConfig(
        vocab_size=32768,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=hidden // 8,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        sliding_window=None,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = MistralForCausalLM(config)
    with torch.no_grad():  # spread the logits, so that greedy choices are not ties
        model.lm_head.weight.mul_(8)
        model.lm_head.weight[BYTES].mul_(bytes_favoured)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save(tokenizer.build(), folder)
    return folder


def save_adapter(base: Path, folder: Path, *, scale: float = 0.1, **lora: object) -> Path:
    """A LoRA adapter for `base` with random A and B; `scale` is the spread of B, 0 makes it do
    nothing."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(11)
    settings = {"r": 8, "lora_alpha": 16, "target_modules": SEVEN, "task_type": "CAUSAL_LM", **lora}
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**settings)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, scale) if scale else parameter.zero_()
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def edit_json(path: Path, **values: object) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
