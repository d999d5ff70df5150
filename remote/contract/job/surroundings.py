"""Which variables a process that outlives its command is started with: those that it needs, by
name, and no other.

Whoever types a command may have tokens in the environment, and every process of the same user can
read that of a running one. So what goes on in the background gets a list of its own, put together
of these groups.
"""

import re
from collections.abc import Mapping

BASE = (
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|TERM|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|XDG_\w+|VIRTUAL_ENV|PYTHON\w+|LD_LIBRARY_PATH|DYLD_\w+|"
    r"SSL_CERT_(FILE|DIR)|\w+_CA_BUNDLE|WINDLASS_\w+"
)
"""What any program needs: where it and its files lie, language and time, certificates; and
Windlass's own."""

PACKAGES = r"PIP_\w+|UV_\w+|(https?|all|no)_proxy"
"""What leads to package indexes, for what installs packages. An address there may hold a password
of its own: without it nothing comes."""

COMPUTE = (
    r"CUDA_\w+|NVIDIA_\w+|NCCL_\w+|OMP_\w+|MKL_\w+|OPENBLAS_\w+|GGML_\w+|TORCH\w*|PYTORCH_\w+|TRITON_\w+|MALLOC_\w+|BITSANDBYTES_\w+|"
    r"BNB_\w+|HF_HUB_\w+|HF_HOME|HF_DATASETS_\w+|TRANSFORMERS_\w+|TOKENIZERS_PARALLELISM|ACCELERATE_\w+"
)
"""How a program that computes uses processors and cards."""

AWS_PLACES = (
    r"AWS_(PROFILE|DEFAULT_PROFILE|REGION|DEFAULT_REGION|CONFIG_FILE|SHARED_CREDENTIALS_FILE"
    r"|ENDPOINT_URL(_\w+)?|EC2_METADATA_\w+)"
)
"""Where a program finds AWS, and credentials that lie in files or come from the metadata service;
never credentials themselves."""

LOCAL = "WINDLASS_LOCAL"
"""Set where the machine is the user's own: nothing there is asked of root."""

_PLACES = re.compile(r"AWS_SHARED_CREDENTIALS_FILE")
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|(^|_)KEY(_|$)|API_?KEY|PRIVATE|PUBLISH", re.IGNORECASE
)


def passed_on(environment: Mapping[str, str], *groups: str) -> dict[str, str]:
    """The variables of `BASE` and of those groups. One whose name says that it is a secret is none
    of them."""
    wanted = re.compile("|".join((BASE, *groups)), re.IGNORECASE)
    return {
        name: value
        for name, value in environment.items()
        if wanted.fullmatch(name) and not _is_secret(name)
    }


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _PLACES.fullmatch(name)
