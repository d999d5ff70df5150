import json

from remote.payload.stages import train


def test_leaves_a_verified_adapter(make_job, capsys):
    job = make_job()
    train.main(job)
    print(capsys.readouterr().out)
    outputs = json.loads(job.paths.outputs.read_text())
    assert set(outputs) == {"adapter", "metrics", "curve", "loss", "val_loss", "steps", "tokens_per_second", "peak_memory_gb"}
