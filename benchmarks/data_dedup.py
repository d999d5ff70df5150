"""How quick and how right near-duplicate removal is, against datatrove and datasketch: python
benchmarks/data_dedup.py [DOCUMENTS]

Each in a process of its own, one worker, imports included, from the same JSONL to the numbers of
the documents that it drops; runs of 3 words, Jaccard 0.85, bands of 18 x 7 for all. The truth is
counted: every pair that shares a run, in plain Python. `missed` are pairs of 0.85 or more of which
both stayed, `wrong` what was dropped though no document that stayed is so near: datatrove takes
what shares a band, datasketch's sketches estimate. The peers come from PyPI into an environment of
their own (WINDLASS_DEDUP_PYTHON names one that is there). Takes some five minutes.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("rensa==0.5.0", "numpy", "datasketch", "datatrove[processing,io]", "spacy")
NEAR, WORDS, BANDS, ROWS = 0.85, 3, 18, 7


def main() -> None:
    """Measure and print one line a contender."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory(prefix="windlass-dedup-") as name:
        folder = Path(name)
        python = os.environ.get("WINDLASS_DEDUP_PYTHON") or _environment(folder / "venv")
        texts = list(documents(count))
        (folder / "rows").mkdir()
        with (folder / "rows" / "rows.jsonl").open("w") as file:
            file.writelines(
                json.dumps({"id": str(at), "text": text}) + "\n" for at, text in enumerate(texts)
            )
        pairs = true_pairs(texts)
        size = sum(map(len, texts)) / 1e6
        print(f"{len(texts)} documents, {size:.0f} MB, {len(pairs)} pairs of {NEAR} or more")
        for contender in CONTENDERS:
            print(f"{contender:12}", _line(_run(python, contender, folder), texts, pairs))


def documents(count: int) -> Iterator[str]:
    """Prose-like documents (words by Zipf's law), a fifth of them with a copy that differs in 0.2 %
    to 10 % of its words, in an order at random."""
    draw = random.Random(1)
    words = [f"{draw.choice('bcdfgl')}{draw.choice('aeiou')}{number:x}" for number in range(50_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    found: list[str] = []
    while len(found) < count:
        text = draw.choices(
            words, weights, k=min(2000, max(20, int(draw.lognormvariate(5.3, 0.8))))
        )
        found.append(" ".join(text))
        if draw.random() < 0.2:
            share = draw.choice((0.002, 0.01, 0.02, 0.03, 0.05, 0.1))
            for at in draw.sample(range(len(text)), max(1, int(share * len(text)))):
                text[at] = draw.choice(words)
            found.append(" ".join(text))
    draw.shuffle(found)
    yield from found[:count]


def runs_of(text: str) -> set[tuple[str, ...]]:
    """The runs of words that are compared."""
    words = text.split()
    return set(zip(*(words[at:] for at in range(WORDS)), strict=False))


def true_pairs(texts: list[str]) -> dict[tuple[int, int], float]:
    """All pairs as near as that, by an index of every run."""
    runs = [runs_of(text) for text in texts]
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    found = {}
    for at, own in enumerate(runs):
        shared: dict[int, int] = defaultdict(int)
        for run in own:
            for other in places[run]:
                shared[other] += 1
            places[run].append(at)
        for other, number in shared.items():
            likeness = number / (len(own) + len(runs[other]) - number)
            if likeness >= NEAR:
                found[other, at] = likeness
    return found


def _line(
    told: dict[str, float | list[int]], texts: list[str], pairs: dict[tuple[int, int], float]
) -> str:
    if "error" in told:
        return f"did not run: {told['error']}"
    dropped = set(told["dropped"])  # type: ignore[arg-type]
    missed = [pair for pair in pairs if not dropped & {*pair}]
    witnessed = {at for pair in pairs for at in pair if len({*pair} - dropped) == 1} & dropped
    seconds, used = float(told["seconds"]), float(told["used"])  # type: ignore[arg-type]
    return (
        f"{seconds:6.1f} s, {used:.1f} s of processor, {len(texts) / used:.0f} documents/s of it,"
        f" {told['megabytes']:.0f} MB; dropped {len(dropped)}, missed {len(missed)} pairs (recall"
        f" {1 - len(missed) / len(pairs):.4f}), wrong {len(dropped - witnessed)}"
        f" (precision {len(witnessed) / max(1, len(dropped)):.4f})"
    )


def _environment(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    python = str(folder / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    return python


def _run(python: str, contender: str, folder: Path) -> dict[str, float | list[int]]:
    command = [python, __file__, "--contender", contender, str(folder)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}  # type: ignore[dict-item]
    told: dict[str, float | list[int]] = json.loads(done.stdout.splitlines()[-1])
    return told


def _contend(name: str, folder: Path) -> None:
    begun = time.perf_counter()
    dropped = CONTENDERS[name](folder)
    used = sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be the parent's, too
    memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    seconds = time.perf_counter() - begun
    told = {"dropped": dropped, "seconds": seconds, "used": used, "megabytes": memory}
    print(json.dumps(told))


def _texts(folder: Path) -> Iterator[str]:
    with (folder / "rows" / "rows.jsonl").open() as file:
        for line in file:
            yield json.loads(line)["text"]


def windlass(folder: Path) -> list[int]:
    """The step `deduplicate`, with its two passes over the rows."""
    from remote.contract.artifacts.rows import Row
    from remote.payload.data.engine import Context
    from remote.payload.data.steps import deduplicate
    from remote.payload.data.units import Given, Origin, Reject

    context = Context(folder, folder / "work", {})
    step = deduplicate.make_step({"type": "deduplicate", "near": NEAR, "shingle": WORDS}, context)
    assert isinstance(step, deduplicate.Near)
    for at, text in enumerate(_texts(folder)):
        step.look(Given(Row(text=text), Origin("rows.jsonl", at + 1)))
    dropped = []
    for at, text in enumerate(_texts(folder)):
        result = next(step(Given(Row(text=text), Origin("rows.jsonl", at + 1))))
        if isinstance(result, Reject):
            dropped.append(at)
    return dropped


def datasketch(folder: Path) -> list[int]:
    """MinHash and LSH as its manual has them: who finds an earlier one is dropped."""
    from datasketch import MinHash, MinHashLSH

    index, dropped = MinHashLSH(num_perm=128, params=(BANDS, ROWS)), []
    for at, text in enumerate(_texts(folder)):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(run).encode() for run in runs_of(text)])
        if any(index_ok(index, other, sketch) for other in index.query(sketch)):
            dropped.append(at)
        else:
            index.insert(at, sketch)
            SKETCHES[at] = sketch
    return dropped


SKETCHES: dict[int, object] = {}


def index_ok(_index: object, other: int, sketch: object) -> bool:
    """Whether the estimate says so, too."""
    return bool(sketch.jaccard(SKETCHES[other]) >= NEAR)  # type: ignore[attr-defined]


def datatrove(folder: Path) -> list[int]:
    """Its four stages, in one process."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig(n_grams=WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS)
    reader = JsonlReader(str(folder / "rows"))
    at = {name: str(folder / name) for name in ("sig", "buckets", "remove", "kept", "logs")}
    stages = (
        ([reader, MinhashDedupSignature(at["sig"], config)], 1),
        ([MinhashDedupBuckets(at["sig"], at["buckets"], config=config)], BANDS),
        ([MinhashDedupCluster(at["buckets"], at["remove"], config=config)], 1),
        ([reader, MinhashDedupFilter(at["remove"]), JsonlWriter(at["kept"], compression=None)], 1),
    )
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=1, logging_dir=f"{at['logs']}/{number}"
        ).run()
    lines = [line for path in Path(at["kept"]).glob("*.jsonl") for line in path.open()]
    kept = {int(json.loads(line)["id"]) for line in lines}
    return sorted({*range(sum(1 for _ in _texts(folder)))} - kept)


CONTENDERS: dict[str, Callable[[Path], list[int]]] = {
    "windlass": windlass,
    "datatrove": datatrove,
    "datasketch": datasketch,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        _contend(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
