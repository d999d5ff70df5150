"""Archives that strangers made, read as streams: ZIP, and tar packed or not, one in another.

Nothing is ever extracted to a path: a member's name is text that is shown, and its content a stream
with a bound. Standard library only, but for zstd.
"""
