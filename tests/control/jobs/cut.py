"""A stream whose connection is lost after some bytes."""

from remote.control.errors import BoxUnreachable


class CutStream:
    def __init__(self, inner, cut):
        self.inner, self.left = inner, cut

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *exception):
        self.inner.__exit__(*exception)

    def __iter__(self):
        for chunk in self.inner:
            yield chunk[: self.left]
            self.left -= len(chunk)
            if self.left <= 0:
                raise BoxUnreachable("the connection was lost", why="cut")
        raise BoxUnreachable("the connection was lost", why="cut at the end")
