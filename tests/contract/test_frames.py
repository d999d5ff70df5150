"""What garbles a stream, or means to, is told as such."""

import pytest

from remote.contract.logs.frames import MAX_CONTENT_BYTES, FrameReader, encode


@pytest.mark.parametrize(
    "size", ["-1", "-4096", '"12"', "1.5", "null", "[]", str(MAX_CONTENT_BYTES + 1), str(10**18)]
)
def test_a_size_that_is_none_is_not_waited_for(size):
    reader = FrameReader()
    with pytest.raises(ValueError, match="a frame of"):
        list(reader.feed(b'{"file": "log", "offset": 0, "size": %s}\nabc' % size.encode()))


def test_the_largest_that_anybody_sends_passes():
    content = b"x" * (5 << 20)
    assert list(FrameReader().feed(encode({"job": "a"}, content))) == [
        ({"job": "a", "size": len(content)}, content)
    ]
