#!/usr/bin/env python3
"""Tries mail end to end: `infera up` sends to a real SMTP server (aiosmtpd) that demands STARTTLS and a login.

    infra/mail.sh --binary target/debug/infera

An address is proven and weighs, a lost key comes back, replies say nothing of others, and no mail is lost when the server is
down, speaks no TLS, or the network is killed. Exits with 1 if a promise is broken.
"""

import argparse
import asyncio
import contextlib
import email
import email.policy
import json
import os
import re
import secrets
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from promises import Tally
from service.certificates import make_authority, make_certificate
from service.place import ROOT
from service.process import free_port

READY_MAX_S = 60
# A mail is sent at once, and a retry comes within the look of two seconds; a busy machine is slow, and not broken.
MAIL_MAX_S = 20
USER, PASSWORD = "infera", "hush-" + secrets.token_hex(8)


class Mailbox:
    """Takes mails for every address, and remembers what it was told and how."""

    def __init__(self):
        self.mails = []
        self.commands = []
        self.stall_at = None
        self.stalled = 0

    async def stall(self, at):
        """Waits in the middle of a command, if this is the one to wait at. The client gives up or is killed meanwhile."""
        if self.stall_at == at:
            self.stalled += 1
            await asyncio.sleep(10)

    async def handle_MAIL(self, server, session, envelope, address, options):
        """Notes who sends."""
        self.commands.append("MAIL")
        await self.stall("MAIL")
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        """Keeps a mail."""
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(
            {
                "to": envelope.rcpt_tos,
                "mail": mail,
                "text": mail.get_content().replace("\r\n", "\n"),
                "tls": session.ssl is not None,
                "login": bool(session.authenticated),
            }
        )
        await self.stall("DATA")
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, login):
        """Checks the password."""
        self.commands.append("AUTH")
        return AuthResult(success=(login.login, login.password) == (USER.encode(), PASSWORD.encode()))

    def of(self, address):
        """Returns the mails to an address."""
        return [one for one in self.mails if one["to"] == [address]]

    def wait_for(self, address, count=1):
        """Waits for that many mails to an address and returns the last one; none if they don't come."""
        until = time.monotonic() + MAIL_MAX_S
        while time.monotonic() < until:
            if len(self.of(address)) >= count:
                return self.of(address)[-1]
            time.sleep(0.05)
        return None


class MailServer:
    """An SMTP server on one port, up or down, with TLS or without."""

    def __init__(self, folder):
        certificate, key = make_certificate(folder, "mail")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)
        self.authority = make_authority(folder)
        self.port = free_port()
        self.box = Mailbox()
        self.controller = None

    def up(self, tls=True):
        """Starts it."""
        self.controller = Controller(
            self.box,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self.context if tls else None,
            require_starttls=tls,
            auth_required=tls,
            auth_require_tls=tls,
            authenticator=self.box.authenticate,
        )
        self.controller.start()

    def down(self):
        """Ends it, if it runs."""
        if self.controller:
            self.controller.stop()
        self.controller = None


class Reply:
    """A reply of the gateway."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        """Returns the body as JSON; nothing if it isn't JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    def code(self):
        """Returns the error's code."""
        return self.headers.get("x-error-code")

    def shape(self):
        """Returns all that may not differ between addresses: status, names of headers, and a body without what is random."""
        names = sorted(name.lower() for name in self.headers)
        body = {name: value for name, value in self.json().items() if name not in ("api_key", "account")}
        return self.status, names, sorted(self.json()), body


class Network:
    """One `infera up` with mail."""

    def __init__(self, binary, folder, server, port):
        self.binary, self.folder, self.server, self.port = binary, folder, server, port
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        self.process = None

    def settings(self, more):
        """Yields the settings as arguments."""
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "nodes.count": "1",
            "gateway.signups_per_minute": "0",
            "gateway.key_ttl_ms": "0",
            "mail.host": "127.0.0.1",
            "mail.port": str(self.server.port),
            "mail.from": "Infera <no-reply@infera.example>",
            "mail.user": USER,
            "mail.ca_file": str(self.server.authority),
            "mail.public_url": self.url,
            "mail.timeout_ms": "1000",
            "mail.retry_ms": "200",
            "mail.per_address_hour_max": "8",
            **more,
        }
        for name, value in settings.items():
            yield from ("--set", f"{name}={value}")

    def start(self, **more):
        """Starts it and waits until it can serve; True if it can. `more` names settings with `__` for a dot."""
        more = {name.replace("__", "."): value for name, value in more.items()}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERA_")}
        environment["INFERA_MAIL__PASSWORD"] = PASSWORD
        command = [self.binary, "up", "--data", str(self.folder / "data"), *self.settings(more)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        until = time.monotonic() + READY_MAX_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.ask("GET", "/readyz").status == 200:
                    return True
            except OSError:
                pass
            time.sleep(0.1)
        return False

    def end(self, how=signal.SIGTERM):
        """Ends it by a signal."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, method, path, body=None, key=None, form=None):
        """Sends one request."""
        headers = {"api_key": key} if key else {}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        if form is not None:
            headers["Content-Type"], data = "application/x-www-form-urlencoded", form.encode()
        request = urllib.request.Request(self.url + path, method=method, headers=headers, data=data)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return Reply(reply.status, reply.headers, reply.read().decode())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers, error.read().decode())

    def sign_up(self, address):
        """Makes an account."""
        return self.ask("POST", "/signup_user", {"email": address})

    def recover(self, address):
        """Asks for a code for a lost key."""
        return self.ask("POST", "/v1/account/recovery", {"email": address})

    def account(self, key):
        """Shows the account of a key."""
        return self.ask("GET", "/v1/account", key=key)

    def shares(self):
        """Returns what the accepted jobs are counted under."""
        path = self.folder / "data" / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
            return [share for (share,) in ledger.execute("SELECT share FROM jobs ORDER BY accepted_ms")]


def code_of(mail):
    """Returns the code in a mail, or nothing."""
    found = re.search(r'"code": "([0-9A-Za-z_-]{43})"', mail["text"] if mail else "")
    return found.group(1) if found else ""


def wrong(code):
    """Returns a code whose public part is right and whose secret is not."""
    return code[:30] + ("A" if code[30:31] != "A" else "B") + code[31:]


def proving(promises, network, box):
    """An address is proven by its mail alone, once, and weighs from then on."""
    signed_up = network.sign_up("Ada@Example.com")
    key, account = signed_up.json().get("api_key"), signed_up.json().get("account")
    promises.hold("a sign-up makes an account and shows its key", signed_up.status == 200 and key, signed_up.body)
    mail = box.wait_for("ada@example.com")
    promises.hold("a mail comes, over TLS and with a login", mail and mail["tls"] and mail["login"], mail)
    head = mail["mail"] if mail else {}
    promises.hold("it is from the sender that is set", head.get("From") == "Infera <no-reply@infera.example>", head)
    promises.hold("it says that a program sent it", head.get("Auto-Submitted") == "auto-generated", head)
    code = code_of(mail)
    promises.hold("its link leads to the public address", mail and f"{network.url}/v1/account/proof?code={code}\n" in mail["text"], mail)
    page = network.ask("GET", f"/v1/account/proof?code={code}")
    promises.hold("the link shows a page with a button", page.status == 200 and 'method="post"' in page.body, page.body)
    promises.hold("the page proves nothing", network.account(key).json().get("proven") is False)
    refused = network.ask("POST", "/v1/account/proof", {"code": wrong(code)})
    promises.hold("a wrong code is refused", (refused.status, refused.code()) == (403, "code_not_valid"), refused.body)
    job = {"model": "infera-tiny", "messages": [{"role": "user", "content": "x"}], "max_output": 1, "temperature": 0}
    before = network.ask("POST", "/submit_job", job, key=key)
    pressed = network.ask("POST", "/v1/account/proof", form=f"code={code}")
    promises.hold("the button proves the address", pressed.status == 200 and "is proven" in pressed.body, pressed.body)
    shown = network.account(key).json()
    promises.hold("the account shows it", shown.get("proven") and shown["events"][0]["event"] == "proven", shown)
    after = network.ask("POST", "/submit_job", job, key=key)
    promises.hold("jobs are accepted before and after", (before.status, after.status) == (200, 200), after.body)
    shares = network.shares()
    promises.hold("the account weighs its own share from then on", shares == ["net:127.0.0.0/24", account], shares)
    again = network.ask("POST", "/v1/account/proof", {"code": code})
    promises.hold("a used code is refused", (again.status, again.code()) == (403, "code_not_valid"), again.body)
    return key


def strangers(promises, network, box):
    """Replies say nothing of who has an account; mails do, to the address alone."""
    known, fresh = network.sign_up("ada@example.com"), network.sign_up("fresh@example.com")
    promises.hold("a sign-up is answered alike for a known address", known.shape() == fresh.shape(), (known.body, fresh.body))
    told = box.wait_for("ada@example.com", 2)
    promises.hold("the mail alone says that the address is used", told and "already" in told["mail"]["Subject"], told)
    promises.hold("and it has no code", told and not code_of(told), told)
    promises.hold("the second account is not proven", network.account(known.json().get("api_key")).json().get("proven") is False)
    known, unknown = network.recover("ada@example.com"), network.recover("nobody@example.com")
    promises.hold("a recovery is answered alike for an unknown address", known.shape() == unknown.shape(), (known.body, unknown.body))
    promises.hold("it is accepted", known.status == 202, known.body)
    for address in ["a@b.co\r\nBcc: eve@example.com", "a@b.co\nRCPT TO:<eve@example.com>", "a b@example.com", "a@b.co>\r\n"]:
        refused = network.sign_up(address)
        promises.hold(f"an address that would begin a header is refused: {address!r}", refused.status == 422, (address, refused.body))


def recovering(promises, network, box, key):
    """A lost key comes back to the proven address, once; the others stay, or end if that is asked for."""
    mail = box.wait_for("ada@example.com", 3)
    code = code_of(mail)
    promises.hold("an unknown address gets no mail", not box.of("nobody@example.com"), box.of("nobody@example.com"))
    proof = network.ask("POST", "/v1/account/proof", {"code": code})
    promises.hold("a code for a key proves nothing", proof.code() == "code_not_valid", proof.body)
    given = network.ask("POST", "/v1/account/recovery/key", {"code": code})
    first = given.json().get("key")
    shown = network.account(first).json()
    promises.hold("the code gives a key of the account", shown.get("id") == network.account(key).json().get("id"), given.body)
    again = network.ask("POST", "/v1/account/recovery/key", {"code": code})
    promises.hold("once", (again.status, again.code()) == (403, "code_not_valid"), again.body)
    promises.hold("the old key stays", network.account(key).status == 200)
    network.recover("ada@example.com")
    code = code_of(box.wait_for("ada@example.com", 4))
    given = network.ask("POST", "/v1/account/recovery/key", {"code": code, "other_keys": "revoke"})
    second = given.json().get("key")
    statuses = [network.account(one).status for one in (key, first, second)]
    promises.hold("or all others end, if that is asked for", statuses == [401, 401, 200], (statuses, given.body))
    events = [event["event"] for event in network.account(second).json().get("events", [])]
    promises.hold("the account notes it", events == ["recovered_and_revoked", "recovered", "proven"], events)


def outages(promises, network, server):
    """A server that is down, or speaks no TLS, gets the mail once it is well."""
    box = server.box
    server.down()
    reply = network.sign_up("down@example.com")
    time.sleep(0.5)
    promises.hold("a sign-up does not wait for the mail server", reply.status == 200 and not box.of("down@example.com"), reply.body)
    server.up()
    promises.hold("the mail comes once the server is up", box.wait_for("down@example.com"), box.commands)
    server.down()
    box.commands.clear()
    server.up(tls=False)
    network.sign_up("clear@example.com")
    time.sleep(1.5)
    promises.hold("a server without TLS is told nothing", box.commands == [] and not box.of("clear@example.com"), box.commands)
    server.down()
    server.up()
    promises.hold("and gets the mail once it has TLS", box.wait_for("clear@example.com"), box.commands)


def killing(promises, network, box):
    """kill -9 in the middle of sending loses no mail, and repeats one at most."""
    for at, least, most in (("MAIL", 1, 1), ("DATA", 2, 2)):
        address = f"killed-at-{at.lower()}@example.com"
        box.stall_at, box.stalled = at, 0
        promises.hold(f"{at}: the sign-up is answered", network.sign_up(address).status == 200)
        until = time.monotonic() + MAIL_MAX_S
        while not box.stalled and time.monotonic() < until:
            time.sleep(0.02)
        network.end(signal.SIGKILL)
        box.stall_at = None
        promises.hold(f"{at}: it starts again", network.start(mail__recovery_life_ms="1000"), network.log)
        promises.hold(f"{at}: the mail comes", box.wait_for(address, least), box.commands)
        time.sleep(0.5)
        mails = box.of(address)
        ids = {one["mail"]["Message-ID"] for one in mails}
        promises.hold(f"{at}: none is lost and one repeated at most, under one id", least <= len(mails) <= most and len(ids) == 1, mails)
        signed_up = network.ask("POST", "/v1/account/proof", {"code": code_of(mails[-1] if mails else None)})
        promises.hold(f"{at}: its code is valid", signed_up.status == 200, signed_up.body)


def expiring(promises, network, box):
    """A code that is too old is refused. Codes for keys live for a second since the last start."""
    before = len(box.of("ada@example.com"))
    network.recover("ada@example.com")
    code = code_of(box.wait_for("ada@example.com", before + 1))
    time.sleep(1.2)
    late = network.ask("POST", "/v1/account/recovery/key", {"code": code})
    promises.hold("a code that is too old is refused", (late.status, late.code()) == (403, "code_not_valid"), late.body)


def settings(promises, binary, folder):
    """Settings that can't work are refused in a sentence."""
    for sets, told in (
        (["mail.host=mail.example"], "mail.from is no address"),
        (["mail.user=infera"], "mail.host is empty"),
        (["mail.host=mail.example", "mail.security=none", "mail.from=a@b.co", "mail.public_url=https://b.co"], "mail.security"),
    ):
        flags = [word for one in sets for word in ("--set", one)]
        done = subprocess.run(
            [binary, "up", "--data", str(folder / "none"), *flags], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        promises.hold(f"wrong settings are refused in a sentence: {told}", done.returncode == 2 and told in done.stderr, done)


def main():
    """Runs all of it and prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/infera")
    binary = str((ROOT / parser.parse_args().binary).resolve())
    promises = Tally("mail")
    with tempfile.TemporaryDirectory(prefix="infera-mail-") as name:
        folder = Path(name)
        settings(promises, binary, folder)
        server = MailServer(folder)
        network = Network(binary, folder, server, free_port())
        server.up()
        try:
            promises.hold("the network starts", network.start(), network.log)
            key = proving(promises, network, server.box)
            strangers(promises, network, server.box)
            recovering(promises, network, server.box, key)
            outages(promises, network, server)
            killing(promises, network, server.box)
            expiring(promises, network, server.box)
        finally:
            network.end()
            server.down()
        log = network.log.read_text(errors="replace")
        codes = [code_of(one) for one in server.box.mails]
        secret = [word for word in [PASSWORD, "@example.com", *filter(None, codes)] if word in log]
        promises.hold("the log has no address, no code and no password", not secret, secret)
        promises.hold("and says of each mail that it was sent", "a mail is sent" in log, log[-2000:])
        if promises.broken:
            print(log[-4000:], file=sys.stderr)
    sys.exit(promises.print_sum())


if __name__ == "__main__":
    main()
