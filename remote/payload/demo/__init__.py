"""The parts of the demo's own small Mistral: its tokenizer, its corpus as tokens, its
pre-training."""
