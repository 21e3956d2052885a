"""What stands beside a task, inside its isolation: ``python -I -S _agent.py SPECIFICATION``. Standard library only.

SPECIFICATION is a JSON object: ``folder`` (of the task), ``argv``, ``environment``, ``port``, ``memory`` (bytes for
RLIMIT_AS, or null), ``vcpu`` (share of a core to hold the task to by stopping and continuing it, or null).

It starts the task, passes each connection at ``door.sock`` on to the task's port, which may be in a network of its own,
and obeys, at ``agent.sock``, one JSON object a line: ``{"do": "status"}`` or ``{"do": "stop", "timeout": SECONDS}``: SIGTERM,
then SIGKILL. It ends when the task ends, with its status (128 + number for a signal).
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

TICK = 0.01
OWNER = "BEYONDLAB_OWNER"
"""By this, what belongs to a lab is found when the lab is gone."""


class Agent:
    def __init__(self, specification):
        self.specification = specification
        self.in_flight = 0
        self.lock = threading.Lock()
        self.orders = 0

    def limits(self):
        if self.specification["memory"]:
            resource.setrlimit(resource.RLIMIT_AS, (self.specification["memory"],) * 2)

    def run(self):
        os.chdir(self.specification["folder"])
        doors = [self.listen("door.sock", self.relay), self.listen("agent.sock", self.obey)]
        self.child = subprocess.Popen(
            self.specification["argv"],
            env=self.specification["environment"] | {key: value for key, value in os.environ.items() if key == OWNER},
            cwd="root",
            stdin=subprocess.DEVNULL,
            preexec_fn=self.limits,
        )
        with open("agent.tmp", "w") as file:
            json.dump({"isolated": BEGIN, "pid": self.child.pid}, file)
        os.rename("agent.tmp", "agent.json")
        signal.signal(signal.SIGTERM, lambda *_: self.child.terminate())
        status = self.wait()
        deadline = time.monotonic() + 1.0
        while self.orders and time.monotonic() < deadline:
            time.sleep(0.001)
        for door in doors:
            door.close()
        return status if status >= 0 else 128 - status

    def wait(self):
        """Wait for the task to end, holding it to its share of a core meanwhile where nothing else does."""
        share = self.specification["vcpu"]
        if not share:
            return self.child.wait()
        credit, last, used, held = 0.05, time.monotonic(), 0.0, False
        while True:
            status = self.child.poll()
            if status is not None:
                return status
            time.sleep(TICK)
            now, spent = time.monotonic(), self.spent()
            credit = min(0.05, credit + (now - last) * share - (spent - used))
            last, used = now, spent
            if held != (credit < 0):
                held = not held
                self.child.send_signal(signal.SIGSTOP if held else signal.SIGCONT)

    def spent(self):
        try:
            with open(f"/proc/{self.child.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def listen(self, name, serve):
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen(64)

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return server

    def relay(self, outside):
        with self.lock:
            self.in_flight += 1
        try:
            with outside, socket.create_connection(("127.0.0.1", self.specification["port"]), 5) as inside:
                inside.settimeout(None)
                threading.Thread(target=copy, args=(outside, inside), daemon=True).start()
                copy(inside, outside)
        except OSError:
            pass
        finally:
            with self.lock:
                self.in_flight -= 1

    def obey(self, connection):
        with self.lock:
            self.orders += 1
        try:
            self.carry_out(connection)
        finally:
            with self.lock:
                self.orders -= 1

    def carry_out(self, connection):
        with connection, connection.makefile("rwb") as stream:
            order = json.loads(stream.readline())
            answer = {"in_flight": self.in_flight}
            if order["do"] == "stop":
                begin = time.monotonic()
                self.child.send_signal(signal.SIGCONT)
                self.child.terminate()
                killed = False
                while running(self.child.pid):
                    if time.monotonic() - begin >= order["timeout"]:
                        killed = True
                        self.child.kill()
                        break
                    time.sleep(0.002)
                answer |= {"killed": killed, "seconds": time.monotonic() - begin}
            stream.write(json.dumps(answer).encode() + b"\n")


def running(pid):
    """Whether the process has neither ended nor become a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    BEGIN = time.monotonic()
    sys.exit(Agent(json.loads(sys.argv[1])).run())
