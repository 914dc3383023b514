"""An orchestrator's address: what cannot be one is refused, and a failure to reach it is told with its remedy."""

from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from client.retry import Unreachable
from protocol.user_error import hosts_only

SCHEMES = ("http", "https")
CAUSES = (
    ("WRONG_VERSION_NUMBER", "nothing speaks TLS at that port: write http:// in place of https://"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted here: check the name, or name its authority's file as SSL_CERT_FILE",
    ),
    (
        "without sending a response",
        "it just stopped, or that port takes https:// or something else",
    ),
)
"""What the network's words mean that say more than that nobody is there."""


def checked(url: str) -> str:
    """Return an address as it is asked; raise `Unreachable` with the remedy where it cannot be one."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        problem = _problem(url, parts) or ("its port is 0" if parts.port == 0 else "")
        if not problem and not _is_name(parts.hostname or ""):
            problem = "its host is no name"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise Unreachable(
            f"{url!r} is no address of an orchestrator ({problem}): check the address, such as "
            "http://HOST:PORT"
        )
    return url.rstrip("/")


def _problem(url: str, parts: SplitResult) -> str:
    if "://" not in url:
        return f"it names no scheme; perhaps http://{url}" if url else "it is empty"
    if parts.scheme not in SCHEMES:
        return f"an orchestrator speaks http or https, not {parts.scheme}"
    if not parts.hostname:
        return "it names no host"
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "there is a blank in it"
    if parts.query or parts.fragment:
        return "it ends in ? or #"
    return "leave out /v1" if parts.path.rstrip("/").endswith("/v1") else ""


def _is_name(host: str) -> bool:
    """Return whether a resolver takes it: its parts have 1 to 63 letters."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def unanswered(url: str, reason: str) -> str:
    """Return that nobody answers at an address, why, through which proxy, and what to do."""
    remedy = next((text for sign, text in CAUSES if sign in reason), None)
    remedy = remedy or "check the address, or start one with `rollcall serve`"
    proxy = proxy_to(url)
    through = f" through the proxy {proxy}" if proxy else ""
    return f"no orchestrator answers at {url}{through} ({reason}): {remedy}"


def proxy_to(url: str) -> str:
    """Return the proxy through which an address is asked, as it may be shown; empty for none."""
    parts, known = urlsplit(url), getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    return hosts_only(proxy) if proxy and not proxy_bypass(parts.hostname or "") else ""
