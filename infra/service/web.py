"""Small HTTP requests to what runs on this machine. A proxy in the environment is not asked."""

import json
import urllib.error
import urllib.request

# A synchronous chat may wait for its group to come up.
PATIENCE_S = 30


class Answer:
    """What came back; status 0 if nothing did."""

    def __init__(self, status, text):
        self.status, self.text = status, text

    def json(self):
        """The body, which must be JSON."""
        return json.loads(self.text)


def ask(url, body=None, key=None, patience_s=PATIENCE_S):
    """GET, or POST of a JSON body, with an API key."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=patience_s) as answer:
            return Answer(answer.status, answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"))
    except (OSError, urllib.error.URLError) as error:
        return Answer(0, str(error))
