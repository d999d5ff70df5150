"""What keeps torch and its friends quiet, offline and cheap on a box: environment variables for a
process, and filters inside one.

Standard library only: the libraries read the variables when they are loaded.
"""

import logging
import os
import warnings

VARIABLES = {
    # Threads that wait for each other sleep. On two shared cores spinning cost pre-training and
    # evaluation twice to three times the time.
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What a process with torch in it starts with, unless its surroundings say otherwise."""


def surroundings() -> dict[str, str]:
    """The environment for a child process that will load torch."""
    return {**VARIABLES, **os.environ}


def quiet() -> None:
    """The same inside this process, and filters for what no variable stops. Called before torch is
    imported."""
    os.environ.update(surroundings())
    # On a CPU with AVX512-BF16 bitsandbytes looks for an optional inference kernel in the network
    # and says that it found none.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # PEFT 0.21 still asks transformers by the old name.
    warnings.filterwarnings(
        "ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning
    )
