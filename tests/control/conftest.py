import pytest

from tests.integration import boxes


@pytest.fixture
def box(tmp_path):
    return boxes.folder_box(tmp_path / "home")


@pytest.fixture(scope="session")
def code(tmp_path_factory):
    """The box's code with small stages of our own."""
    return boxes.code_tree(tmp_path_factory.mktemp("code"))


@pytest.fixture
def digest(box, code):
    """A release with those stages, on the box."""
    return boxes.deploy_stages(box, code)
