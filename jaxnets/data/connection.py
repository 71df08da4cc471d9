"""Whether a host can be reached, answered in a few seconds."""

import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request

#: How long to wait for an answer, in seconds.
PATIENCE = 2.0


def fault(url: str, patience: float = PATIENCE) -> str | None:
    """Says why the host of an address cannot be reached; None if it answers.

    One short request is sent, through the proxy of the environment if it names one. Any answer
    will do, also a refusal of that one page.

    Args:
        url: an address on the host.
        patience: how long to wait in all, in seconds.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # Looking a name up may take minutes and cannot be bounded, so a thread does that; should it
    # hang, the process need not wait for it.
    threading.Thread(target=lambda: answers.put(_ask(url, patience)), daemon=True).start()
    try:
        return answers.get(timeout=patience)
    except queue.Empty:
        return f"no answer within {patience:g} s"


def host(url: str) -> str:
    """The host of an address.

    Examples:
        >>> host("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz")
        'www.cs.toronto.edu'
    """
    return urllib.parse.urlsplit(url).hostname or url


def _ask(url: str, patience: float) -> str | None:
    try:
        parts = urllib.parse.urlsplit(url)
        request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
        # an opener of its own: urlopen's keeps the proxies of its first call
        urllib.request.build_opener().open(request, timeout=patience).close()
    except urllib.error.HTTPError:
        return None  # it answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        # Whose certificate is not trusted has answered, and may be trusted by the downloader.
        return None if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    except ValueError as error:
        return str(error)
    return None
