"""A Ray cluster of several nodes on this machine, in a process of its own: `with Nodes(folder) as nodes`.

The head has no cores, so that no work is on it and every other node may go.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORE_BYTES = 80 * 2**20


class Nodes:
    """The cluster, told by its first node's address what to do.

    Args:
        folder: Takes the token and the log.
        cpus: Cores of each node there is at the start.
        dashboard: Whether the head has a dashboard, and with it the job server.
        variables: Of the nodes' environment, on top of ours.

    """

    def __init__(self, folder, cpus=(1, 1, 1), *, dashboard=False, **variables):
        self.folder, self.cpus, self.dashboard = folder, cpus, dashboard
        self.temporary = tempfile.mkdtemp(prefix="vg", dir="/tmp")
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Where it would tell others that there is a cluster to join.
            "RAY_TMPDIR": self.temporary,
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            **variables,
        }

    def __enter__(self):
        command = [sys.executable, __file__, self.temporary, *(["dashboard"] if self.dashboard else [])]
        with (self.folder / "nodes.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=self.folder,
            )  # fmt: skip
        self.address = self._answer()
        self.names = [self.add(cpus) for cpus in self.cpus]
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def add(self, cpus=1, **environment):
        """Start another node; its name for `remove`."""
        return self._ask("add", cpus, environment)

    def remove(self, name):
        """Kill all processes of a node at once."""
        return self._ask("remove", name)

    def count(self):
        """How many nodes live, with the head."""
        return self._ask("count")

    def run(self, *command, **options):
        """A command on the head's machine to its end."""
        return subprocess.run(
            [sys.executable, *map(str, command)], env=self.environment, capture_output=True, text=True, timeout=600,
            cwd=self.folder, **options,
        )  # fmt: skip

    def _ask(self, *what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        while line := self.process.stdout.readline():
            if line.startswith("= "):
                return json.loads(line[2:])
        raise AssertionError((self.folder / "nodes.log").read_text()[-3000:])


def main(temporary, *with_):
    from ray.cluster_utils import Cluster

    def say(what):
        sys.stdout.write(f"= {json.dumps(what)}\n")
        sys.stdout.flush()

    (Path(temporary) / "ray").mkdir()
    head = {"num_cpus": 0, "temp_dir": temporary, "object_store_memory": STORE_BYTES}
    head["include_dashboard"] = "dashboard" in with_
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = {}
    say(cluster.address)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "add":
            cpus, environment = arguments
            before = dict(os.environ)
            os.environ.update(environment)
            node = cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)
            os.environ.clear()
            os.environ.update(before)
            nodes[node.node_id] = node
            say(node.node_id)
        elif command == "count":
            say(len(cluster.global_state._live_node_ids()))
        else:
            cluster.remove_node(nodes.pop(arguments[0]), allow_graceful=False)
            say(None)
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
