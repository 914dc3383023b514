"""What a process finds around it: loopback is reached directly, and children find data but no secret."""

import os

LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")
NO_PROXY = ("no_proxy", "NO_PROXY")
"""Programs read either; both are set alike."""

FINDS_PROGRAMS = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP")
FINDS_DATA = (
    "ROLLCALL_DATA",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
HUB = "HF_"
"""Hugging Face's own: HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and others."""


def reach_loopback_directly() -> None:
    """Keep this machine's own addresses from any proxy, for every library here and in children."""
    listed = [name for key in NO_PROXY for name in os.environ.get(key, "").split(",")]
    named = [name for entry in listed if (name := entry.strip().strip("[]"))]
    for key in NO_PROXY:
        os.environ[key] = ",".join(dict.fromkeys([*named, *LOOPBACK]))


def for_child() -> dict[str, str]:
    """Return the part of the environment by which a child finds programs, data and the network: no key of ours."""
    named = {*FINDS_PROGRAMS, *FINDS_DATA, *PROXIES, *(name.lower() for name in PROXIES)}
    return {key: value for key, value in os.environ.items() if key in named or key.startswith(HUB)}
