"""llama.cpp's server in xllamacpp, on a port of loopback: python xllama.py GGUF PORT THREADS SLOTS CONTEXT"""

import sys
import threading

import xllamacpp


def main():
    """Serves until the process is ended."""
    gguf, (port, threads, slots, context) = sys.argv[1], map(int, sys.argv[2:])
    settings = xllamacpp.CommonParams()
    settings.model.path = gguf
    settings.hostnames, settings.port = ["127.0.0.1"], port
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.n_parallel, settings.n_ctx = slots, context
    settings.cache_ram_mib = 0
    settings.ui = False
    server = xllamacpp.Server(settings)
    print(f"listening at {server.listening_address}, {xllamacpp.BUILD_INFO}, {xllamacpp.get_system_info()}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
