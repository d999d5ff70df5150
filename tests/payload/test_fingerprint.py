import json
import shutil

import pytest

from remote.contract.job.jobs import Cause
from remote.payload import fingerprint
from remote.payload.job import StageFailed


def write_weights(path, content):
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "w": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]},
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 4, "transformers_version": "5.0"}')
    write_weights(folder / "model.safetensors", bytes(range(256)) * 40_000)
    return folder


def test_a_copy_has_the_same_fingerprint(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "config.json").write_text(
        '{"transformers_version": "5.1", "_name_or_path": "x", "hidden_size": 4}'
    )
    assert fingerprint.of_model(copy) == fingerprint.of_model(base)


def test_other_weights_or_another_config_have_another(base):
    before = fingerprint.of_model(base)
    write_weights(base / "model.safetensors", bytes(range(1, 256)) * 40_000)
    changed = fingerprint.of_model(base)
    (base / "config.json").write_text('{"hidden_size": 8}')
    assert len({before, changed, fingerprint.of_model(base)}) == 3


def test_shards_are_found_through_their_index(base):
    (base / "model.safetensors").rename(base / "a.safetensors")
    write_weights(base / "b.safetensors", b"b" * 10)
    (base / "model.safetensors.index.json").write_text(
        '{"weight_map": {"x": "b.safetensors", "w": "a.safetensors", "y": "b.safetensors"}}'
    )
    assert [path.name for path in fingerprint.weight_files(base)] == [
        "a.safetensors",
        "b.safetensors",
    ]
    assert len(fingerprint.of_model(base)) == 64


def cut_weights(base):
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "config.json": lambda base: (base / "config.json").unlink(),
    "Expecting": lambda base: (base / "config.json").write_text("{"),
    "already quantised": (
        lambda base: (base / "config.json").write_text('{"quantization_config": {}}')
    ),
    "not there: model.safetensors": lambda base: (base / "model.safetensors").unlink(),
    "bytes": cut_weights,
    "it is a Git LFS pointer": (
        lambda base: (base / "model.safetensors").write_bytes(
            b"version https://git-lfs.github.com/spec/v1"
        )
    ),
    "is damaged": lambda base: (base / "model.safetensors.index.json").write_text("{}"),
    "not there: gone.safetensors": (
        lambda base: (base / "model.safetensors.index.json").write_text(
            '{"weight_map": {"x": "gone.safetensors"}}'
        )
    ),
}


@pytest.mark.parametrize("why", DAMAGES)
def test_a_folder_that_is_no_whole_base_is_refused(base, why):
    DAMAGES[why](base)
    with pytest.raises(StageFailed) as caught:
        fingerprint.of_model(base)
    assert caught.value.cause is Cause.MODEL_MISSING
    assert why in caught.value.why and caught.value.remedy
