import threading

import pytest

from remote.embedded.teacher.server import Server


@pytest.fixture
def endpoint():
    """A stand-in of a teacher's API. What talks to it has its URL alone."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
