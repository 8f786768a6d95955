"""What is asked, and the client whose log the checker believes."""

import random
import threading
import time

MODEL = "infera-tiny"
# A submit that got no answer (the process was killed under it) is sent again under the same idempotency key.
TRIES_MAX = 400


def requests(count):
    """The requests of both runs: questions of the model's domain, some sampled, each with its own user seed."""
    rng = random.Random(7)
    made = []
    for index in range(count):
        first, second = rng.randrange(100), rng.randrange(100)
        text = rng.choice([f"What is {first} + {second}?", f"Subtract {second} from {first}.", f"What is {first} plus {second}?"])
        temperature = rng.choice([0, 0, 0.7, 1.0])
        made.append({
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_output": 32,
            "temperature": temperature,
            "seed": index,
        })
    return made


class Client:
    """Submits from several threads and writes down what it was told: the log that the checker believes."""

    def __init__(self, network, bodies, threads, run):
        self.network, self.bodies, self.run = network, bodies, run
        self.next, self.lock = 0, threading.Lock()
        self.accepted = {}
        self.odd = []
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def work(self):
        while True:
            with self.lock:
                index, self.next = self.next, self.next + 1
            if index >= len(self.bodies):
                return
            self.submit(index)

    def submit(self, index):
        headers = {"idempotency-key": f"{self.run}-{index}"}
        for _ in range(TRIES_MAX):
            status, reply = self.network.call("POST", "/submit_job", self.bodies[index], headers)
            if status == 200:
                with self.lock:
                    self.accepted[index] = reply["job_id"]
                return
            if status is not None and status not in (409, 429, 503):
                self.odd.append((index, status, reply))
                return
            time.sleep(0.1)
        self.odd.append((index, "no answer", TRIES_MAX))
