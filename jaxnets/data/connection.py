"""A quick check whether a host can be reached."""

import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request

#: How long to wait for a response, in seconds.
PATIENCE = 2.0


def fault(url: str, patience: float = PATIENCE) -> str | None:
    """Returns why the host of a URL cannot be reached; None if it responds.

    One short request is sent, through the environment's proxy if there is one. Any response counts,
    also an error status.

    Args:
        url: a URL on the host.
        patience: timeout in seconds.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # DNS resolution may take minutes and has no timeout, so it runs in a daemon thread, which does
    # not keep the process alive.
    threading.Thread(target=lambda: answers.put(_ask(url, patience)), daemon=True).start()
    try:
        return answers.get(timeout=patience)
    except queue.Empty:
        return f"no response within {patience:g} s"


def host(url: str) -> str:
    """Returns the host of a URL.

    Examples:
        >>> host("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz")
        'www.cs.toronto.edu'
    """
    return urllib.parse.urlsplit(url).hostname or url


def _ask(url: str, patience: float) -> str | None:
    try:
        parts = urllib.parse.urlsplit(url)
        request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
        # A new opener, because that of urlopen keeps the proxies of its first call.
        urllib.request.build_opener().open(request, timeout=patience).close()
    except urllib.error.HTTPError:
        return None  # the host responds
    except OSError as error:
        reason = getattr(error, "reason", error)
        # A host with an untrusted certificate responds, and the downloader may trust it.
        return None if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    except ValueError as error:
        return str(error)
    return None
