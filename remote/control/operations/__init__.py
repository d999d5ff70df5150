"""What Windlass can do, as typed functions: the command line, a web page and a schedule call these.

An operation takes plain values and the inventory, returns a value, and tells of progress through
one callback, `say`. It prints nothing, asks nothing, and reads no inventory: who calls it does.
"""
