"""From a base and an adapter to GGUF files that Ollama reads: merge, convert, quantise, and prove
that nothing was lost on the way."""
