"""The base in 4 bits with fp32 adapters on top, its tokenizer, and the loss on the answer alone."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from remote.contract.artifacts.chat_templates import BUILT_IN
from remote.contract.files import untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed
from remote.payload.stages.prompt import check_template
from remote.payload.training.batches import Batch
from remote.payload.training.settings import Settings

_HEAD_ROWS = 1024
"""Logits of at most this many tokens stand in memory at once: 128 MiB in fp32 for a vocabulary of
32,768."""


def load_tokenizer(folder: Path, chat_template: str | None = None) -> Any:
    """The base's tokenizer with a padding token that is not the end of sequence: else the model
    never learns to stop.

    `chat_template`, the recipe's, takes the place of the base's own.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise StageFailed(
            Cause.MODEL_MISSING,
            f"no usable tokenizer in {folder}",
            str(error),
            "download the base model again",
        ) from None
    if chat_template:
        tokenizer.chat_template = chat_template
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = tokenizer.unk_token
    _check_tokenizer(tokenizer, folder)
    return tokenizer


def _check_tokenizer(tokenizer: Any, folder: Path) -> None:
    rows = untrusted_json.read_object(folder / "config.json")["vocab_size"]
    repair = "repair the tokenizer files of the base model"
    choose = (
        "add `chat_template: mistral-v3` below `base:` in the recipe (known:"
        f" {', '.join(BUILT_IN)}), or name a Jinja file there"
    )
    faults = (
        (
            not tokenizer.is_fast,
            "it has no tokenizer.json, and none can be made of its other files",
            repair,
        ),
        (
            tokenizer.pad_token_id in (None, tokenizer.eos_token_id),
            "it has no padding token other than the end of sequence",
            repair,
        ),
        (
            tokenizer.bos_token_id is None or tokenizer.eos_token_id is None,
            "it lacks <s> or </s>",
            repair,
        ),
        (not tokenizer.chat_template, "it has no chat template", choose),
        (len(tokenizer) > rows, f"it knows {len(tokenizer)} tokens, the model only {rows}", repair),
    )
    for wrong, why, remedy in faults:
        if wrong:
            raise StageFailed(Cause.CONFIG, f"the tokenizer of {folder} does not fit", why, remedy)
    check_template(tokenizer)


def load_base(folder: Path, settings: Settings) -> Any:
    """The base model, quantised while it loads; raises StageFailed when the recipe's device is not
    there."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise StageFailed(
            Cause.CONFIG,
            "the recipe says `device: cuda`, but torch sees no GPU",
            remedy="`./inv preflight`, or `device: cpu`",
        )
    compute = getattr(torch, settings.compute_dtype)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=settings.double,
        bnb_4bit_compute_dtype=compute,
    )
    place = {"": 0 if settings.device == "cuda" else "cpu"}
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=quantization,
        dtype=compute,
        device_map=place,
        local_files_only=True,
        use_safetensors=True,
    )
    model.config.use_cache = False
    return model


def add_adapter(base: Any, settings: Settings) -> Any:
    """LoRA layers on the recipe's targets. The adapters are fp32 whatever the compute type: AdamW's
    small steps vanish in bf16."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules=list(settings.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        model = get_peft_model(base, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise StageFailed(
            Cause.CONFIG,
            "the adapter does not fit the base model",
            str(error),
            "edit `lora.targets` in the recipe",
        ) from None
    if settings.recompute:
        base.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    return model


def trainable(model: Any) -> dict[str, Any]:
    """The adapter's parameters by name, in the model's order."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def set_dropout(model: Any, active: bool) -> None:
    """Dropout on or off. Not by `model.eval()`: that repacks bitsandbytes' weights on a CPU, and no
    gradient passes them afterwards."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train(active)


def computing(settings: Settings) -> AbstractContextManager[Any]:
    """The context in which the model computes in the recipe's type while its adapters stay fp32."""
    import torch

    if settings.compute_dtype == "float32":
        return nullcontext()
    autocast: AbstractContextManager[Any] = torch.autocast(
        settings.device, dtype=getattr(torch, settings.compute_dtype)
    )
    return autocast


def hidden_states(model: Any, batch: Batch) -> Any:
    """The last hidden states at the supervised places only, one row each: the head never sees the
    rest."""
    backbone = model.get_base_model().model
    hidden = backbone(input_ids=batch.ids, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, batch.places)


def head_loss(model: Any, hidden: Any, labels: Any, with_gradient: bool) -> tuple[Any, Any]:
    """Summed cross-entropy in nats (fp32), and its gradient for `hidden` (or None).

    The head is frozen, so that the gradient needs no graph: it is made piece by piece beside the
    loss, and the logits of one piece are all that ever stands in memory.
    """
    import torch

    weight = model.get_output_embeddings().weight
    hidden = hidden.detach().to(weight.dtype)
    loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
    gradient = torch.empty_like(hidden) if with_gradient else None
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, len(labels), _HEAD_ROWS):
            piece = slice(start, start + _HEAD_ROWS)
            wanted = labels[piece].unsqueeze(1)
            # One exponential for both: the loss needs its sum, the gradient its share of that sum.
            logits = torch.nn.functional.linear(hidden[piece], weight).float()
            logits -= logits.amax(dim=1, keepdim=True)
            answer = logits.gather(1, wanted)
            share = logits.exp_()
            total = share.sum(dim=1, keepdim=True)
            loss += (total.log() - answer).sum()
            if gradient is not None:
                share /= total
                share.scatter_add_(1, wanted, torch.full_like(total, -1.0))
                gradient[piece] = share.to(weight.dtype) @ weight
    return loss, gradient
