"""What a fresh box lacks: code, environment, base models, Ollama; and the images that spare the
next one the wait."""
