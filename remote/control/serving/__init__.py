"""Models in Ollama: find a server (or start the embedded one), install, roll back, validate."""
