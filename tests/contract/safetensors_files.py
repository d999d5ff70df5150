"""Writes .safetensors files without the library, good ones and bad ones."""

import json


def write_safetensors(path, tensors, header=None):
    """`tensors`: name -> (dtype, shape, bytes). `header` replaces the honest one."""
    at, honest = 0, {}
    for name, (dtype, shape, content) in tensors.items():
        honest[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
    text = (
        json.dumps(honest if header is None else header).encode()
        if not isinstance(header, bytes)
        else header
    )
    path.write_bytes(
        len(text).to_bytes(8, "little")
        + text
        + b"".join(content for _, _, content in tensors.values())
    )
