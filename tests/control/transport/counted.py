"""A box whose answers are counted, and slowed down or broken off where a test wants it."""

import time


class Counted:
    """The box: `said` counts the bytes of its answers. `pace` seconds pass before each chunk;
    `interrupt` is raised after one."""

    def __init__(self, inner):
        self.inner, self.where, self.said, self.pace, self.interrupt = (
            inner,
            inner.where,
            0,
            0.0,
            None,
        )

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def open(self, *words, **options):
        return CountedStream(self, self.inner.open(*words, **options))


class CountedStream:
    def __init__(self, box, stream):
        self.box, self.stream = box, stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __enter__(self):
        self.stream.__enter__()
        return self

    def __exit__(self, *exception):
        self.stream.__exit__(*exception)

    def __iter__(self):
        for chunk in self.stream:
            self.box.said += len(chunk)
            yield chunk
            time.sleep(self.box.pace if len(chunk) > 1000 else 0)
            if self.box.interrupt:
                raise self.box.interrupt
