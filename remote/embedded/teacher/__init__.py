"""A stand-in of a teacher's API, so that nothing is paid for in tests and demos: it answers what an
OpenAI-compatible endpoint and an Ollama answer. Reached by its URL alone."""
