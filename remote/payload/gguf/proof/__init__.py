"""Proof that a GGUF says what the trained model says."""
