"""Lists and reads a bucket over S3's protocol, signed by Signature Version 4.

Standard library only, so that the checker shares no code with the programs' client.
"""

import datetime
import hashlib
import hmac
import http.client
import urllib.parse
import xml.etree.ElementTree as ElementTree

REGION = "us-east-1"
PATIENCE_S = 30
EMPTY = hashlib.sha256(b"").hexdigest()


class Bucket:
    """One bucket of a store on this machine."""

    def __init__(self, url):
        """`url`: http://key-id:secret@host:port/bucket."""
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.key_id, self.secret = parts.username, parts.password
        self.name = parts.path.strip("/")

    def keys(self):
        """Returns the keys of all objects."""
        found, after = [], None
        while True:
            query = {"list-type": "2", **({"continuation-token": after} if after else {})}
            tree = ElementTree.fromstring(self.get(f"/{self.name}", query))
            space = tree.tag[: tree.tag.index("}") + 1] if tree.tag.startswith("{") else ""
            found += [entry.findtext(f"{space}Key") for entry in tree.iter(f"{space}Contents")]
            after = tree.findtext(f"{space}NextContinuationToken")
            if not after:
                return found

    def read(self, key):
        """Returns the bytes of an object."""
        return self.get(f"/{self.name}/{key}", {})

    def get(self, path, query):
        """Sends a signed GET; OSError unless the answer is 200."""
        path = urllib.parse.quote(path)
        pairs = sorted((urllib.parse.quote(name, safe=""), urllib.parse.quote(value, safe="")) for name, value in query.items())
        text = "&".join(f"{name}={value}" for name, value in pairs)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"{path}?{text}" if text else path, headers=self.signature(path, text))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"S3 answered {answer.status} to {path}: {content[:300]!r}")
        return content

    def signature(self, path, query):
        """Returns the headers that authenticate the request."""
        now = datetime.datetime.now(datetime.timezone.utc)
        moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        host = f"{self.host}:{self.port}"
        named = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": moment}
        lines = "".join(f"{name}:{value}\n" for name, value in named.items())
        names = ";".join(named)
        request = "\n".join(["GET", path, query, lines, names, EMPTY])
        scope = f"{day}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = f"AWS4{self.secret}".encode()
        for word in (day, REGION, "s3", "aws4_request"):
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        proof = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        given = f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, SignedHeaders={names}, Signature={proof}"
        return {**named, "authorization": given}
