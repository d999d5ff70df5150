"""The embedded Ollama: Ollama's HTTP API in front of llama.cpp (through xllamacpp), a background
process of the project's own.

`remote.control.serving.embedded` starts and finds it; `serve` is the process; `app` speaks HTTP;
`store` keeps models on disk; `engine` keeps a few of them loaded, each in a `runner` process of its
own; `rendering` turns chats into prompts; `wire` holds the shapes of replies.
"""
